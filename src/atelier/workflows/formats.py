"""The one door for graphs that somebody sends, whatever their format."""

from typing import Any

from atelier.comfy.object_info import ObjectInfo
from atelier.workflows.graph import Graph, parse_graph


def graph_of(body: Any, object_info: ObjectInfo | None = None) -> Graph:
    """Return ``body`` as an API-format graph of its own.

    ``object_info`` is that of an instance, None while none is up. Raises GraphMalformed.
    """
    return parse_graph(body)
