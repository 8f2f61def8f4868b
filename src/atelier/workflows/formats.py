"""The one door for graphs that somebody sends, whatever their format."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any

import orjson

from atelier.comfy.object_info import ObjectInfo
from atelier.errors import Unavailable
from atelier.workflows.convert import convert, is_editor_graph
from atelier.workflows.convert.text import Pick, first
from atelier.workflows.graph import Graph, parse_graph


class ConversionUnavailable(Unavailable):
    """Only an instance can say which widgets its nodes have, and none is up."""

    code = "CONVERSION_UNAVAILABLE"
    default_hint = (
        "Try again once a ComfyUI instance is up, or send the graph in the API format: in ComfyUI "
        "choose Workflow > Export (API)."
    )


def graph_of(
    body: Any,
    object_info: ObjectInfo | None = None,
    *,
    pick: Pick = first,
    now: datetime | None = None,
) -> Graph:
    """Return ``body``, in ComfyUI's API or UI format, as an API-format graph of its own.

    It may be wrapped as ComfyUI does in pictures and requests: ``{"prompt": ...}`` and the like.
    ``object_info`` is that of an instance, None while none is up; ``pick`` decides ``{a|b}`` in
    prompts and ``now`` fills dates into file names, both for the UI format only. Raises
    GraphMalformed, ConversionFailed with all problems, or ConversionUnavailable.
    """
    body = unwrapped(body)
    if not is_editor_graph(body):
        return parse_graph(body)
    if object_info is None:
        raise ConversionUnavailable(
            "The graph is in ComfyUI's UI format, and no instance is up to tell how to read it."
        )
    return convert(body, object_info, pick=pick, now=now)


def unwrapped(body: Any) -> Any:
    """Return the graph within ``body``: what ran where both formats are there, else itself."""
    if not isinstance(body, Mapping) or is_editor_graph(body):
        return body
    for key in ("prompt", "output", "workflow"):
        inner = _parsed(body.get(key))
        if is_editor_graph(inner) or _is_api_graph(inner):
            return inner
    return body


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


def _is_api_graph(body: Any) -> bool:
    return (
        isinstance(body, Mapping)
        and bool(body)
        and all(isinstance(node, Mapping) and "class_type" in node for node in body.values())
    )


def _parsed(value: Any) -> Any:
    # In a picture's metadata both stand as texts.
    if not isinstance(value, str) or not value.lstrip().startswith("{"):
        return value
    try:
        return orjson.loads(value)
    except orjson.JSONDecodeError:
        return value
