"""A workflow's inputs written into its graph."""

import re
from collections.abc import Mapping
from functools import lru_cache
from typing import Any, Final

from atelier.workflows.graph import Graph, is_link
from atelier.workflows.inputs import complete, draws_seed, image_refs, seed_of
from atelier.workflows.manifest import Manifest, Target, Variant
from atelier.workflows.problem import (
    InputMissing,
    InputMistyped,
    InputNotAChoice,
    InputOutOfRange,
    InputProblem,
    InputsInvalid,
    InputUnknown,
)

__all__ = [
    "InputMissing",
    "InputMistyped",
    "InputNotAChoice",
    "InputOutOfRange",
    "InputProblem",
    "InputUnknown",
    "InputsInvalid",
    "bind",
    "complete",
    "draws_seed",
    "image_refs",
    "input_at",
    "placeholders",
    "seed_of",
    "without_left_out",
]

_PLACEHOLDER: Final = re.compile(r"\{([^{}]+)\}")


def bind(graph: Graph, manifest: Manifest, variant: str, inputs: Mapping[str, Any]) -> Graph:
    """Return a copy of ``graph`` with ``inputs`` written where the variant's targets say.

    ``inputs`` are complete; pictures are written as they stand there: the name of the uploaded
    file, or, to check before uploading, ``{"url": ...}``. Raises InputMissing if the variant
    needs an input that is required, or a model that nobody has chosen yet.
    """
    bound = {node_id: {**node, "inputs": dict(node["inputs"])} for node_id, node in graph.items()}
    targets = manifest.variant(variant).targets
    for entry in manifest.inputs:
        places = targets.get(entry.name)
        if not places:
            continue
        value = inputs.get(entry.name)
        if value is None:
            if entry.required or entry.type == "model":
                raise InputMissing(entry.name)
            continue
        for place in places:
            bound[place.node]["inputs"][place.input] = _written(place, value, manifest, inputs)
    return without_left_out(bound, manifest.variant(variant), inputs)


def without_left_out(graph: Graph, variant: Variant, inputs: Mapping[str, Any]) -> Graph:
    """Return ``graph`` without the nodes that stand there for an input that is left out."""
    gone = {
        node_id
        for name, nodes in variant.leave_out.items()
        if inputs.get(name) is None
        for node_id in nodes
    }
    if not gone:
        return graph
    return {
        node_id: {
            **node,
            "inputs": {
                name: value
                for name, value in node["inputs"].items()
                if not (is_link(value) and value[0] in gone)
            },
        }
        for node_id, node in graph.items()
        if node_id not in gone
    }


def input_at(variant: Variant, node: str, name: str) -> str | None:
    """Return which of the workflow's inputs is written at that place, for messages to callers."""
    for entry, places in variant.targets.items():
        if any(place.node == node and place.input == name for place in places):
            return entry
    return None


@lru_cache(maxsize=4096)
def placeholders(template: str) -> tuple[tuple[str, ...], ...]:
    """Return the paths that a template names: ``{style.prompt}`` is ``("style", "prompt")``."""
    return tuple(tuple(match.split(".")) for match in _PLACEHOLDER.findall(template))


def _written(place: Target, value: Any, manifest: Manifest, inputs: Mapping[str, Any]) -> Any:
    if place.map is not None:
        key = str(value).lower() if isinstance(value, bool) else str(value)
        return place.map.get(key, value)
    if place.template is None:
        return value
    paths = placeholders(place.template)
    if len(paths) == 1 and place.template == "{" + ".".join(paths[0]) + "}":
        return _part(paths[0], manifest, inputs)
    parts = {".".join(path): _part(path, manifest, inputs) for path in paths}
    return _PLACEHOLDER.sub(
        lambda match: "" if parts[match[1]] is None else str(parts[match[1]]), place.template
    )


def _part(path: tuple[str, ...], manifest: Manifest, inputs: Mapping[str, Any]) -> Any:
    name, *keys = path
    value = inputs.get(name)
    if not keys:
        return value
    entry = manifest.input(name)
    choice = entry.choice(value) if entry is not None else None
    part: Any = choice.data if choice is not None else value
    for key in keys:
        part = part.get(key) if isinstance(part, Mapping) else None
    return part
