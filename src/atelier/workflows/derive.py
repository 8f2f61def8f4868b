"""A manifest made from a graph alone, or from a graph and the names of the inputs that count."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from pydantic import ValidationError

from atelier.comfy.object_info import InputSpec, ObjectInfo, model_folder
from atelier.workflows.graph import PREVIEWS, Graph, class_types, is_link, output_nodes
from atelier.workflows.manifest import Input, InputType, Manifest, Output, Target, Variant
from atelier.workflows.places import Found, find, is_number, is_whole
from atelier.workflows.problem import InputProblem, InputsInvalid, InputUnknown
from atelier.workflows.requirement import GRAPH_VARIANT
from atelier.workflows.titles import as_words, own_title, slug, title_of
from atelier.workflows.values import SEED_MAX, image_ref

GRAPH_FILE: Final = "graph.json"

# ComfyUI's own bounds, for when no instance is there to be asked.
_BOUNDS: Final[Mapping[str, tuple[float, float]]] = {
    "steps": (1, 10_000),
    "cfg": (0, 100),
    "guidance": (0, 100),
    "denoise": (0, 1),
    "batch_size": (1, 4096),
    "size": (16, 16_384),
}
# Other words for what is found, each with the first kind that it can mean.
_ALIASES: Final[Mapping[str, tuple[str, ...]]] = {
    "positive_prompt": ("prompt",),
    "positive": ("prompt",),
    "text": ("prompt",),
    "negative": ("negative_prompt",),
    "negative_text": ("negative_prompt",),
    "noise_seed": ("seed",),
    "num_inference_steps": ("steps",),
    "cfg_scale": ("cfg",),
    "guidance_scale": ("cfg", "guidance"),
    "strength": ("denoise",),
    "batch": ("batch_size",),
    "num_images": ("batch_size",),
    "frames": ("length",),
    "num_frames": ("length",),
    "frame_rate": ("fps",),
    "checkpoint": ("model",),
    "ckpt": ("model",),
    "ckpt_name": ("model",),
    "lora_name": ("lora",),
    "image_url": ("image",),
    "init_image": ("image",),
    "input_image": ("image",),
    "mask_image": ("mask",),
}
_KINDS: Final = (
    ("audio", "audio"),
    ("video", "video"),
    ("webm", "video"),
    ("glb", "3d"),
    ("3d", "3d"),
    ("text", "text"),
    ("string", "text"),
)

_Made = dict[str, tuple[Input, tuple[Target, ...]]]


def derive(
    name: str,
    graph: Graph,
    wanted: Sequence[str | Mapping[str, Any]] | None = None,
    *,
    object_info: ObjectInfo | None = None,
) -> Manifest:
    """Return a manifest for ``graph``: with every input that is found, or with ``wanted`` alone.

    Each of ``wanted`` is a name, or an object with a ``name`` and what else is to be said of that
    input. A name means what is found under it (prompt, seed, width, ...), a node's input
    (``NODE.INPUT``, or the input's name where one node has it), or a node by its title. Defaults
    are what the graph has, except that a seed is drawn. Raises InputsInvalid with all problems.
    """
    made = _all(graph, object_info)
    if wanted is not None:
        made = _wanted(made, wanted, graph, object_info)
    return Manifest(
        name=name,
        title=as_words(name),
        inputs=tuple(entry for entry, _ in made.values()),
        variants=(
            Variant(
                name=GRAPH_VARIANT,
                kind="custom",
                graph=GRAPH_FILE,
                targets={key: targets for key, (_, targets) in made.items()},
                outputs=_outputs(graph, object_info),
            ),
        ),
    )


def place_of(key: str, graph: Graph) -> tuple[str, str] | None:
    """Return the node and the input that ``NODE.INPUT`` names; None if there is no such place."""
    # Both halves may hold dots: node ids of subgraphs, inputs that grow.
    parts = key.split(".")
    for end in range(1, len(parts)):
        node_id, name = ".".join(parts[:end]), ".".join(parts[end:])
        if node_id in graph and name in graph[node_id]["inputs"]:
            return node_id, name
    return None


def _all(graph: Graph, object_info: ObjectInfo | None) -> _Made:
    made: _Made = {}
    for found in find(graph, object_info):
        name = found.kind
        if name in made:
            # A second of its kind: by its title if it has one, else by number.
            name = slug(found.title) if found.title.isascii() else ""
        number = 2
        while not name or name in made:
            name, number = f"{found.kind}_{number}", number + 1
        made[name] = _input(name, found, graph, object_info), _targets(name, found)
    return made


def _input(name: str, found: Found, graph: Graph, object_info: ObjectInfo | None) -> Input:
    title = found.title or (title_of(found.kind) if name == found.kind else as_words(name))
    fields: dict[str, Any] = {"name": name, "type": found.type, "title": title}
    match found.type:
        case "seed":
            high = _bounds(found, graph, object_info).get("max", SEED_MAX)
            fields |= {"max": int(high)} if high < SEED_MAX else {}
        case "image" | "mask":
            # A file on somebody's instance is no default that others could use.
            ref = image_ref(found.value)
            fields |= {"required": True} if ref is None else {"default": ref}
        case "model":
            fields |= {"default": found.value, "folder": found.folder or found.kind}
        case _:
            fields |= {"default": found.value} | _bounds(found, graph, object_info)
    return Input.model_validate(fields)


def _targets(name: str, found: Found) -> tuple[Target, ...]:
    if found.type != "size":
        return tuple(Target(node=node, input=at) for node, at in found.places)
    sides = ("width", "height")
    return tuple(
        Target(node=node, input=at, template=f"{{{name}.{sides[number % 2]}}}")
        for number, (node, at) in enumerate(found.places)
    )


def _bounds(found: Found, graph: Graph, object_info: ObjectInfo | None) -> dict[str, Any]:
    """``min``, ``max`` and for sizes ``step``, as far as what the graph has keeps to them."""
    specs = [_spec(place, graph, object_info) for place in found.places]
    lows = [spec.min for spec in specs if spec is not None and spec.min is not None]
    highs = [spec.max for spec in specs if spec is not None and spec.max is not None]
    low, high = _BOUNDS.get(found.kind, (None, None))
    low, high = max(lows, default=low), min(highs, default=high)
    given = list(found.value.values()) if isinstance(found.value, dict) else [found.value]
    if not all(is_number(value) for value in given):
        return {}
    bounds: dict[str, Any] = {}
    whole = found.type != "float"
    if low is not None and min(given) >= low:
        bounds["min"] = int(low) if whole else low
    if high is not None and max(given) <= high:
        bounds["max"] = int(high) if whole else high
    steps = {int(spec.step) for spec in specs if spec is not None and spec.step}
    if found.type == "size" and len(steps) == 1:
        (step,) = steps
        if step > 1 and all((value - bounds.get("min", 0)) % step == 0 for value in given):
            bounds["step"] = step
    return bounds


def _spec(place: tuple[str, str], graph: Graph, object_info: ObjectInfo | None) -> InputSpec | None:
    info = object_info.node(graph[place[0]]["class_type"]) if object_info is not None else None
    return info.inputs.get(place[1]) if info is not None else None


# -- the inputs that somebody names ---------------------------------------------------------------


def _wanted(
    made: _Made,
    wanted: Sequence[str | Mapping[str, Any]],
    graph: Graph,
    object_info: ObjectInfo | None,
) -> _Made:
    sides = _sides(made)
    chosen: _Made = {}
    problems: list[InputProblem] = []
    for one in wanted:
        more = {} if isinstance(one, str) else dict(one)
        name = one if isinstance(one, str) else more.get("name")
        if not isinstance(name, str) or not name:
            problems.append(InputProblem(str(name), "is no name of an input"))
            continue
        if name in chosen:
            problems.append(InputProblem(name, "is listed twice"))
            continue
        try:
            entry, targets = _meant(name, made, sides, graph, object_info)
            fields = {**entry.model_dump(exclude_unset=True), **more, "name": name}
            chosen[name] = Input.model_validate(fields), _renamed(targets, entry.name, name)
        except InputProblem as problem:
            problems.append(problem)
        except ValidationError as error:
            problems += [
                InputProblem(name, f"has a faulty {'.'.join(map(str, one['loc']))}: {one['msg']}")
                for one in error.errors(include_url=False)
            ]
    if problems:
        raise InputsInvalid(problems)
    return chosen


def _meant(
    name: str, made: _Made, sides: _Made, graph: Graph, object_info: ObjectInfo | None
) -> tuple[Input, tuple[Target, ...]]:
    """What ``name`` means; raises an InputProblem that lists what there is."""
    for word in (name, *_ALIASES.get(name, ())):
        for there in (made, sides):
            if word in there:
                return there[word]
    place = place_of(name, graph)
    if place is None:
        places = [(node_id, name) for node_id, node in graph.items() if _is_set(node, name)]
        if not places:
            places = [
                (node_id, key)
                for node_id, node in graph.items()
                if slug(own_title(node, object_info)) == slug(name)
                for key in node["inputs"]
                if _is_set(node, key)
            ]
        if len(places) > 1:
            raise InputProblem(
                name,
                f"could be each of {', '.join('.'.join(one) for one in places)}: name one of these",
                allowed=[".".join(one) for one in places],
            )
        if not places:
            there_is = [f"{node_id}.{key}" for node_id in graph for key in graph[node_id]["inputs"]]
            raise InputUnknown(name, [*made, *sides, *there_is])
        place = places[0]
    return _at(name, place, graph, object_info), (Target(node=place[0], input=place[1]),)


def _is_set(node: Mapping[str, Any], name: str) -> bool:
    return name in node["inputs"] and not is_link(node["inputs"][name])


def _at(name: str, place: tuple[str, str], graph: Graph, object_info: ObjectInfo | None) -> Input:
    """An input for one place, of the type that stands there."""
    node, (_, at) = graph[place[0]], place
    value, folder = node["inputs"][at], model_folder(node["class_type"], at)
    type_: InputType = "any"
    if at in ("seed", "noise_seed"):
        type_ = "seed"
    elif node["class_type"] in ("LoadImage", "LoadImageMask") and at == "image":
        type_ = "image"
    elif folder is not None:
        type_ = "model"
    elif isinstance(value, bool):
        type_ = "boolean"
    elif is_number(value):
        spec = _spec(place, graph, object_info)
        is_float = spec.type == "FLOAT" if spec is not None else not is_whole(value)
        type_ = "float" if is_float else "integer"
    elif isinstance(value, str):
        type_ = "text"
    default = None if is_link(value) else value
    title = own_title(node, object_info)
    return _input(name, Found(at, type_, default, (place,), title, folder), graph, object_info)


def _sides(made: _Made) -> _Made:
    """Width and height by themselves, for each size that there is."""
    sides: _Made = {}
    for name, (entry, targets) in made.items():
        if entry.type != "size":
            continue
        for number, side in enumerate(("width", "height")):
            key = side + name.removeprefix("size")
            fields = {**entry.model_dump(exclude_unset=True), "name": key, "type": "integer"}
            fields |= {"default": entry.default[side], "title": title_of(side)}
            places = tuple(Target(node=one.node, input=one.input) for one in targets[number::2])
            sides[key] = Input.model_validate(fields), places
    return sides


def _renamed(targets: Iterable[Target], old: str, new: str) -> tuple[Target, ...]:
    """The same places; a template of a size names its input."""
    return tuple(
        target
        if target.template is None
        else target.model_copy(
            update={"template": target.template.replace(f"{{{old}.", f"{{{new}.")}
        )
        for target in targets
    )


def _outputs(graph: Graph, object_info: ObjectInfo | None) -> tuple[Output, ...]:
    """The nodes that save. None are named where there are previews alone: then all count."""
    # An instance that lacks a node can't tell whether that one delivers.
    knows_all = object_info is not None and class_types(graph) <= object_info.classes
    delivering = output_nodes(graph, object_info if knows_all else None)
    found = []
    for node_id in delivering:
        class_type = graph[node_id]["class_type"]
        if class_type in PREVIEWS:
            continue
        word = class_type.lower()
        kind = next((kind for part, kind in _KINDS if part in word), "image")
        found.append(Output.model_validate({"node": node_id, "kind": kind}))
    return tuple(found)
