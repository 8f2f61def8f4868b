"""Whether an instance would take a graph, and if not, everything that is wrong with it."""

from collections.abc import Container, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final, Literal

from atelier.comfy.model_key import names_model
from atelier.comfy.object_info import InputSpec, ObjectInfo
from atelier.workflows.graph import Graph, Link, is_link, output_nodes, upstream
from atelier.workflows.nearest import listed, nearest
from atelier.workflows.problem import shown
from atelier.workflows.values import image_ref

ProblemCode = Literal[
    "node_missing",
    "model_missing",
    "file_missing",
    "value_out_of_range",
    "value_not_in_list",
    "value_mistyped",
    "input_missing",
    "link_mistyped",
    "link_broken",
    "cycle",
    "no_outputs",
    "malformed",
]

# ComfyUI would take a literal here and fail when the node runs; no widget gives such a value.
_ONLY_LINKED: Final = frozenset(
    {
        "AUDIO",
        "CLIP",
        "CLIP_VISION",
        "CLIP_VISION_OUTPUT",
        "CONDITIONING",
        "CONTROL_NET",
        "GUIDER",
        "IMAGE",
        "LATENT",
        "MASK",
        "MODEL",
        "NOISE",
        "SAMPLER",
        "SIGMAS",
        "STYLE_MODEL",
        "UPSCALE_MODEL",
        "VAE",
        "VIDEO",
    }
)


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong, at ``node`` and ``input`` (empty where it is the whole graph).

    ``allowed`` are valid values, the likeliest first, cut to ten of ``total``; ``minimum`` and
    ``maximum`` the range. ``file_missing`` may be out of date: files can be uploaded any time.
    """

    node: str
    class_type: str
    input: str
    code: ProblemCode
    message: str
    allowed: tuple[Any, ...] = ()
    total: int = 0
    minimum: float | None = None
    maximum: float | None = None

    def as_dict(self) -> dict[str, Any]:
        """The JSON-able form, without what doesn't apply."""
        body = asdict(self)
        if not self.allowed:
            del body["allowed"], body["total"]
        return {key: value for key, value in body.items() if value is not None}


@dataclass(frozen=True, slots=True)
class Findings:
    """``problems`` make ComfyUI refuse the graph; ``skipped`` only cost it the outputs they hit."""

    problems: tuple[Problem, ...] = ()
    skipped: tuple[Problem, ...] = ()


def check(
    graph: Graph, object_info: ObjectInfo, *, uploaded: Container[str] = frozenset()
) -> list[Problem]:
    """Return all reasons why ComfyUI would refuse ``graph``; none if it would take it.

    Like ComfyUI it looks only at what outputs depend on (unless a node is missing), and takes a
    graph if one output can be had. ``uploaded`` are input files that ``object_info`` is too old to
    list; a picture that is still ``{"url": ...}`` or ``{"asset": ...}`` passes.
    """
    return list(examine(graph, object_info, uploaded=uploaded).problems)


def examine(
    graph: Graph, object_info: ObjectInfo, *, uploaded: Container[str] = frozenset()
) -> Findings:
    """Return what ``check`` returns, and apart from it what only makes ComfyUI skip outputs."""
    absent = [_node_missing(node_id, graph, object_info) for node_id in graph]
    missing = [problem for problem in absent if problem is not None]
    outputs = output_nodes(graph, object_info)
    if not outputs and not missing:
        return Findings((_no_outputs(),))
    # With a node missing, nobody knows what depends on what: all that is wrong is told at once.
    needed, cycles = upstream(graph, list(graph) if missing else outputs)
    found: dict[str, list[Problem]] = {
        node_id: list(_node_problems(node_id, graph, object_info, uploaded)) for node_id in needed
    }
    for members in cycles:
        problem = _cycle(members, graph)
        found[problem.node].append(problem)
    problems = (*missing, *(p for node_id in graph for p in found.get(node_id, ())))
    if not missing and problems:
        for output in outputs:
            if not any(found[node_id] for node_id in upstream(graph, [output])[0]):
                return Findings(skipped=problems)
    return Findings(problems)


def check_links(graph: Graph) -> list[Problem]:
    """Return the links that lead nowhere, and the cycles: wrong at every instance."""
    problems = []
    for node_id, node in graph.items():
        for name, value in node["inputs"].items():
            if is_link(value) and value[0] not in graph:
                spec = InputSpec(name, "*", required=False)
                problems.append(_nowhere(_Place(node_id, node["class_type"], spec), value, graph))
    _, cycles = upstream(graph, list(graph))
    return problems + [_cycle(members, graph) for members in cycles]


def _node_missing(node_id: str, graph: Graph, object_info: ObjectInfo) -> Problem | None:
    class_type = graph[node_id]["class_type"]
    if object_info.node(class_type) is not None:
        return None
    known = sorted(object_info.classes)
    close = nearest(class_type, known)
    message = f"Node {node_id}: there is no node {class_type} ({listed(close[:3], len(known))})."
    return Problem(node_id, class_type, "", "node_missing", message, close, len(known))


def _no_outputs() -> Problem:
    message = "The graph has no output node, such as SaveImage."
    return Problem("", "", "", "no_outputs", message, ("SaveImage", "PreviewImage"), 2)


def _cycle(members: Sequence[Link], graph: Graph) -> Problem:
    last = members[-1]
    round_trip = " <- ".join([*(link.node for link in members), last.source])
    class_type = graph[last.node]["class_type"]
    message = f"Node {last.node} ({class_type}): {last.input} closes a cycle ({round_trip})."
    return Problem(last.node, class_type, last.input, "cycle", message)


@dataclass(frozen=True, slots=True)
class _Place:
    node: str
    class_type: str
    spec: InputSpec

    def problem(self, code: ProblemCode, message: str, **details: Any) -> Problem:
        text = f"Node {self.node} ({self.class_type}): {self.spec.name} {message}."
        return Problem(self.node, self.class_type, self.spec.name, code, text, **details)


def _node_problems(
    node_id: str, graph: Graph, object_info: ObjectInfo, uploaded: Container[str]
) -> Iterator[Problem]:
    node = graph[node_id]
    info = object_info.node(node["class_type"])
    for spec in info.inputs.values() if info is not None else ():
        place = _Place(node_id, node["class_type"], spec)
        if spec.type.startswith("COMFY_"):  # inputs that grow or change: only the node knows
            continue
        if spec.name not in node["inputs"]:
            if spec.required:
                yield place.problem("input_missing", f"is required ({spec.type})")
            continue
        value = node["inputs"][spec.name]
        if isinstance(value, list | tuple):
            problem = _link_problem(place, value, graph, object_info)
        else:
            if isinstance(value, dict) and "__value__" in value:
                value = value["__value__"]
            problem = _value_problem(place, value, uploaded)
        if problem is not None:
            yield problem


def _link_problem(
    place: _Place, value: Sequence[Any], graph: Graph, object_info: ObjectInfo
) -> Problem | None:
    if place.spec.options.get("multiselect") and place.spec.type == "COMBO":
        return None
    if not is_link(value):
        return place.problem(
            "link_broken", f"must be linked as [node id as text, slot], not {shown(value)}"
        )
    source, slot = value
    if source not in graph:
        return _nowhere(place, value, graph)
    info = object_info.node(graph[source]["class_type"])
    if info is None:
        return None  # said where that node stands
    if not 0 <= slot < len(info.outputs):
        has = ", ".join(f"{i} {kind}" for i, kind in enumerate(info.outputs)) or "none"
        return place.problem(
            "link_broken", f"is linked to output {slot} of node {source}, which has: {has}"
        )
    if not _fits(info.outputs[slot], place.spec.type):
        return place.problem(
            "link_mistyped",
            f"takes {place.spec.type}, and output {slot} of node {source} is {info.outputs[slot]}",
            allowed=(place.spec.type,),
            total=1,
        )
    return None


def _nowhere(place: _Place, value: Sequence[Any], graph: Graph) -> Problem:
    return place.problem(
        "link_broken",
        f"is linked to node {value[0]}, which is not there",
        allowed=nearest(value[0], graph),
        total=len(graph),
    )


def _fits(given: str, taken: str) -> bool:
    # Several types are joined by commas; newer nodes have types that are matched when wired.
    kinds, wanted = ({kind.strip() for kind in side.split(",")} for side in (given, taken))
    return bool(kinds & wanted) or "*" in kinds | wanted or given.startswith("COMFY_")


def _value_problem(place: _Place, value: Any, uploaded: Container[str]) -> Problem | None:
    spec = place.spec
    if spec.type in _ONLY_LINKED:
        if value is None and not spec.required:
            return None
        return place.problem("link_mistyped", f"must be linked to {spec.type}, not {shown(value)}")
    if spec.type in ("INT", "FLOAT"):
        return _number_problem(place, value)
    if spec.choices is None or spec.options.get("multiselect") or value in spec.choices:
        return None
    if spec.uploaded:
        return _file_problem(place, value, uploaded)
    close = nearest(value, spec.choices)
    total = len(spec.choices)
    code: ProblemCode = (
        "model_missing" if names_model(place.class_type, spec.name, value) else "value_not_in_list"
    )
    message = f"must be one of {listed(close, total)}, not {shown(value)}"
    return place.problem(code, message, allowed=close, total=total)


def _file_problem(place: _Place, value: Any, uploaded: Container[str]) -> Problem | None:
    if isinstance(value, dict) and image_ref(value) is not None:
        return None
    # ComfyUI looks on its disk; of subfolders and "name [output]" the list says nothing.
    if isinstance(value, str) and (value in uploaded or "/" in value or value.endswith("]")):
        return None
    choices = place.spec.choices or ()
    close = nearest(value, choices)
    message = f"names a file that the instance doesn't have: {shown(value)}"
    return place.problem("file_missing", message, allowed=close, total=len(choices))


def _number_problem(place: _Place, value: Any) -> Problem | None:
    spec = place.spec
    try:
        number = int(value) if spec.type == "INT" else float(value)
    except (TypeError, ValueError, OverflowError):
        kind = "a whole number" if spec.type == "INT" else "a number"
        return place.problem("value_mistyped", f"must be {kind}, not {shown(value)}")
    low, high = spec.min, spec.max
    if (low is None or number >= low) and (high is None or number <= high):
        return None
    bounds = [f"at least {low}"] if low is not None else []
    bounds += [f"at most {high}"] if high is not None else []
    message = f"must be {' and '.join(bounds)}, not {shown(value)}"
    return place.problem("value_out_of_range", message, minimum=low, maximum=high)
