"""The one door for graphs that somebody sends, whatever their format."""

from collections.abc import Mapping
from typing import Any

from atelier.comfy.object_info import ObjectInfo
from atelier.workflows.graph import Graph, parse_graph


def graph_of(body: Any, object_info: ObjectInfo | None = None) -> Graph:
    """Return ``body`` as an API-format graph of its own.

    ``object_info`` is that of an instance, None while none is up. Raises GraphMalformed.
    """
    return parse_graph(body)


def named_types(body: Any) -> frozenset[str]:
    """Return every node type that is named anywhere in ``body``, whatever its format."""
    found: set[str] = set()
    waiting = [body]
    while waiting:
        one = waiting.pop()
        if isinstance(one, Mapping):
            found |= {one[key] for key in ("class_type", "type") if isinstance(one.get(key), str)}
            waiting += one.values()
        elif isinstance(one, list):
            waiting += one
    return frozenset(found)
