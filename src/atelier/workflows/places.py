"""What in a graph somebody may want to set: found by node type, by links and by title."""

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

from atelier.comfy.object_info import ObjectInfo, model_folder
from atelier.workflows.graph import Graph, is_link, links
from atelier.workflows.manifest import InputType
from atelier.workflows.titles import node_title, own_title, slug

# Where a node that only passes a value on keeps it.
_CARRIERS: Final = ("value", "text", "string", "prompt", "seed", "number", "int", "float", "")
_NUMBERS: Final[tuple[tuple[str, InputType, tuple[str, ...]], ...]] = (
    ("seed", "seed", ("seed", "noise_seed")),
    ("steps", "integer", ("steps",)),
    ("cfg", "float", ("cfg",)),
    ("guidance", "float", ("guidance",)),
    ("denoise", "float", ("denoise",)),
    ("fps", "float", ("fps", "frame_rate")),
)
_SIZED: Final[tuple[tuple[str, tuple[str, ...]], ...]] = (
    ("batch_size", ("batch_size",)),
    ("length", ("length", "video_frames")),
)
_TEXTS: Final = frozenset(
    {"text", "text_g", "text_l", "clip_l", "clip_g", "t5xxl", "llama", "bert", "mt5xl"}
    | {"prompt", "user_prompt", "positive_prompt", "tags", "lyrics"}
)
_NEGATIVE_TEXTS: Final = frozenset({"negative_prompt", "negative_text"})
_NEGATIVE_TITLE: Final = re.compile(r"negativ|反向|负面|負面|负向|負向", re.IGNORECASE)
# Links that carry no conditioning.
_ASIDE: Final = re.compile(
    r"(model|clip|vae|images?|pixels|samples|latent|mask|control_net|clip_vision|style_model|"
    r"guider|noise|sampler|sigmas|audio|video)\w*"
)
_PRIMITIVES: Final[dict[str, InputType]] = {
    "PrimitiveInt": "integer",
    "PrimitiveFloat": "float",
    "PrimitiveString": "text",
    "PrimitiveStringMultiline": "text",
    "PrimitiveBoolean": "boolean",
}
_BASES: Final = {
    "checkpoints": "model",
    "diffusion_models": "model",
    "loras": "lora",
    "text_encoders": "text_encoder",
    "upscale_models": "upscale_model",
    "style_models": "style_model",
    "model_patches": "model_patch",
}
_NOT_RUN: Final = ("Save", "Train")  # their steps and seeds are not a sampler's


@dataclass(frozen=True, slots=True)
class Found:
    """Places that are one input: ``kind`` is what it is called, ``value`` what stands there.

    ``places`` are (node, input); for a size they alternate between width and height. ``title`` is
    the one that somebody gave to the node.
    """

    kind: str
    type: InputType
    value: Any
    places: tuple[tuple[str, str], ...]
    title: str = ""
    folder: str | None = None


def find(graph: Graph, object_info: ObjectInfo | None = None) -> list[Found]:
    """Return all that is found, in the order in which a form would show it.

    Places of one kind with the same value are one input; pictures are never taken together.
    """
    found = [*_texts(graph), *_pictures(graph), *_sizes(graph), *_numbers(graph), *_models(graph)]
    taken = {place for one in found for place in one.places}
    found += [one for one in _titled(graph) if not taken.intersection(one.places)]
    grouped: dict[Any, Found] = {}
    for one in found:
        title = own_title(graph[one.places[0][0]], object_info)
        alone = one.places if one.type in ("image", "mask") else None
        key = (one.kind, one.folder, repr(one.value), alone)
        first = grouped.setdefault(key, Found(one.kind, one.type, one.value, (), title, one.folder))
        places = tuple(dict.fromkeys((*first.places, *one.places)))
        grouped[key] = Found(
            first.kind, first.type, first.value, places, first.title or title, first.folder
        )
    order = ["prompt", "negative_prompt", "image", "mask", "size", *(kind for kind, _ in _SIZED)]
    order += [kind for kind, _, _ in _NUMBERS]
    rank = {kind: place for place, kind in enumerate(order)}
    return sorted(grouped.values(), key=lambda one: rank.get(one.kind, len(rank)))


def literal(
    graph: Graph, node_id: str, name: str, accepts: Callable[[Any], bool]
) -> tuple[str, str] | None:
    """Return where the value of an input is kept: there, or in the primitive that it is linked to.

    None where that is no value that ``accepts`` takes.
    """
    seen = set()
    while node_id in graph and node_id not in seen:
        seen.add(node_id)
        inputs = graph[node_id]["inputs"]
        value = inputs.get(name)
        if not is_link(value):
            return (node_id, name) if accepts(value) else None
        node_id = value[0]
        passed = graph.get(node_id, {}).get("inputs", {})
        name = next(
            (key for key in _CARRIERS if is_link(passed.get(key)) or accepts(passed.get(key))), "-"
        )
    return None


def is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def is_whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def _value(graph: Graph, place: tuple[str, str]) -> Any:
    return graph[place[0]]["inputs"][place[1]]


def _texts(graph: Graph) -> Iterator[Found]:
    negative = _reached(graph, "negative") - _reached(graph, "positive")
    linked = _reached(graph, "negative") | _reached(graph, "positive")
    for node_id, node in graph.items():
        encodes = "Encode" in node["class_type"]
        by_title = node_id not in linked and _NEGATIVE_TITLE.search(node_title(node)) is not None
        for name in node["inputs"]:
            if name not in _TEXTS | _NEGATIVE_TEXTS or (name == "text" and not encodes):
                continue
            # Two texts that are joined on their way are two inputs.
            for place in _joined(graph, node_id, name):
                is_negative = node_id in negative or by_title or name in _NEGATIVE_TEXTS
                kind = "negative_prompt" if is_negative else "prompt"
                yield Found(kind, "text", _value(graph, place), (place,))


def _joined(graph: Graph, node_id: str, name: str) -> list[tuple[str, str]]:
    value = graph[node_id]["inputs"][name]
    source = value[0] if is_link(value) else ""
    if source in graph and graph[source]["class_type"] == "StringConcatenate":
        sides = [literal(graph, source, side, _is_text) for side in ("string_a", "string_b")]
        return [place for place in sides if place is not None]
    place = literal(graph, node_id, name, _is_text)
    return [] if place is None else [place]


def _reached(graph: Graph, side: str) -> set[str]:
    """All nodes that a ``positive`` or ``negative`` input gets its conditioning from."""
    waiting = [(link.source, link.slot) for link in links(graph) if link.input == side]
    seen: set[tuple[str, int]] = set()
    while waiting:
        node_id, slot = waiting.pop()
        if (node_id, slot) in seen or node_id not in graph:
            continue
        seen.add((node_id, slot))
        inputs = graph[node_id]["inputs"]
        if is_link(inputs.get("positive")) and is_link(inputs.get("negative")):
            # It passes both on, each at its own output.
            names = [("positive", "negative")[slot] if slot in (0, 1) else side]
        else:
            names = [name for name in inputs if not _ASIDE.fullmatch(name)]
        waiting += [(inputs[name][0], inputs[name][1]) for name in names if is_link(inputs[name])]
    return {node_id for node_id, _ in seen}


def _pictures(graph: Graph) -> Iterator[Found]:
    slots: dict[str, set[int]] = {}
    for link in links(graph):
        slots.setdefault(link.source, set()).add(link.slot)
    for node_id, node in graph.items():
        value = node["inputs"].get("image")
        if is_link(value) or value is None:
            continue
        if node["class_type"] == "LoadImage":
            only_mask = slots.get(node_id) == {1}
            kind: InputType = "mask" if only_mask else "image"
            yield Found(kind, kind, value, ((node_id, "image"),))
        elif node["class_type"] == "LoadImageMask":
            yield Found("mask", "mask", value, ((node_id, "image"),))


def _sizes(graph: Graph) -> Iterator[Found]:
    for node_id, node in graph.items():
        inputs = node["inputs"]
        counts = [name for _, names in _SIZED for name in names if name in inputs]
        if not counts or node["class_type"].startswith(_NOT_RUN):
            continue
        sides = [literal(graph, node_id, side, is_whole) for side in ("width", "height")]
        if sides[0] is None or sides[1] is None:
            continue
        width, height = _value(graph, sides[0]), _value(graph, sides[1])
        yield Found("size", "size", {"width": width, "height": height}, (sides[0], sides[1]))
        yield from _first(graph, node_id, [(kind, "integer", names) for kind, names in _SIZED])


def _numbers(graph: Graph) -> Iterator[Found]:
    for node_id, node in graph.items():
        if not node["class_type"].startswith(_NOT_RUN) or "fps" in node["inputs"]:
            yield from _first(graph, node_id, _NUMBERS)


def _first(
    graph: Graph, node_id: str, kinds: Sequence[tuple[str, InputType, tuple[str, ...]]]
) -> Iterator[Found]:
    for kind, type_, names in kinds:
        accepts = is_number if type_ == "float" else is_whole
        for name in names:
            place = literal(graph, node_id, name, accepts)
            if place is not None:
                yield Found(kind, type_, _value(graph, place), (place,))
                break


def _models(graph: Graph) -> Iterator[Found]:
    for node_id, node in graph.items():
        for name, value in node["inputs"].items():
            folder = model_folder(node["class_type"], name)
            if folder is not None and isinstance(value, str):
                base = _BASES.get(folder, folder)
                yield Found(base, "model", value, ((node_id, name),), folder=folder)


def _titled(graph: Graph) -> Iterator[Found]:
    """Primitives that somebody has named: made to be set."""
    for node_id, node in graph.items():
        type_ = _PRIMITIVES.get(node["class_type"])
        value = node["inputs"].get("value")
        title = own_title(node)
        if type_ is not None and slug(title) and value is not None and not is_link(value):
            yield Found(slug(title), type_, value, ((node_id, "value"),))
