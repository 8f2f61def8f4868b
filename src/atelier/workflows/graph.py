"""ComfyUI's API-format graph: ``{node id: {"class_type": ..., "inputs": {...}}}``."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeGuard

from atelier.comfy.object_info import ObjectInfo
from atelier.errors import WorkflowError

Graph = dict[str, dict[str, Any]]

# Core nodes whose results are for looking at, not for keeping.
PREVIEWS: Final = frozenset(
    {"PreviewImage", "MaskPreview", "PreviewAny", "PreviewAudio", "Preview3D", "Preview3DAnimation"}
)

_NODE: Final = '{"class_type": "SaveImage", "inputs": {"images": ["8", 0], ...}}'


class GraphMalformed(WorkflowError):
    """It is no API-format graph; ``problems`` says all that is wrong with it.

    ``nodes`` are the node and class that each is about, "" where it is the whole graph;
    ``data["node_errors"]`` tells both, as for a graph that can't run.
    """

    code = "WORKFLOW_VALIDATION_ERROR"
    default_hint = "In ComfyUI choose Workflow > Export (API) and send the content of that file."

    def __init__(
        self, problems: Sequence[str], nodes: Sequence[tuple[str, str]] | None = None
    ) -> None:
        places = nodes or [("", "")] * len(problems)
        super().__init__(
            f"The workflow graph is malformed: {'; '.join(problems)}.",
            problems=list(problems),
            node_errors=[
                {
                    "node": node,
                    "class_type": class_type,
                    "input": "",
                    "code": "malformed",
                    "message": f"{problem}; a node is {_NODE}",
                }
                for problem, (node, class_type) in zip(problems, places, strict=True)
            ],
        )
        self.problems = tuple(problems)


@dataclass(frozen=True, slots=True)
class Link:
    """``node`` takes for ``input`` what ``source`` puts out at ``slot``."""

    node: str
    input: str
    source: str
    slot: int


def parse_graph(body: Any) -> Graph:
    """Return ``body`` as a graph of its own, nodes without ``inputs`` given empty ones.

    Raises GraphMalformed with all problems of shape; whether it can run is for ``check`` to say.
    """
    if not isinstance(body, Mapping):
        raise GraphMalformed([f"it is {_kind(body)}, not an object of nodes"])
    if isinstance(body.get("nodes"), list):
        raise GraphMalformed(["it is in the editor's format (nodes and links), not the API format"])
    if not body:
        raise GraphMalformed(["it has no nodes"])
    problems: list[str] = []
    nodes: list[tuple[str, str]] = []
    graph: Graph = {}
    for node_id, node in body.items():
        if not isinstance(node, Mapping):
            problems.append(f"node {node_id} is {_kind(node)}, not an object")
            nodes.append((str(node_id), ""))
            continue
        class_type, inputs = node.get("class_type"), node.get("inputs", {})
        named = class_type if isinstance(class_type, str) else ""
        if not named:
            problems.append(f"node {node_id} has no class_type")
            nodes.append((str(node_id), ""))
        if not isinstance(inputs, Mapping):
            problems.append(f"node {node_id} has inputs that are {_kind(inputs)}, not an object")
            nodes.append((str(node_id), named))
            continue
        graph[str(node_id)] = {**node, "inputs": dict(inputs)}
    if problems:
        raise GraphMalformed(problems, nodes)
    return graph


def is_link(value: Any) -> TypeGuard[Sequence[Any]]:
    """True for a well-formed ``[node id, slot]``."""
    return (
        isinstance(value, list | tuple)
        and len(value) == 2
        and isinstance(value[0], str)
        and isinstance(value[1], int)
        and not isinstance(value[1], bool)
    )


def links(graph: Graph) -> Iterator[Link]:
    """Yield every well-formed link, also one to a node that is not there."""
    for node_id, node in graph.items():
        for name, value in node["inputs"].items():
            if is_link(value):
                yield Link(node_id, name, value[0], value[1])


def class_types(graph: Graph) -> frozenset[str]:
    return frozenset(node["class_type"] for node in graph.values())


def output_nodes(graph: Graph, object_info: ObjectInfo | None = None) -> tuple[str, ...]:
    """Return the nodes that deliver results, in the graph's order but previews last.

    Without ``object_info`` these are the nodes that nothing is linked from.
    """
    if object_info is None:
        sources = {link.source for link in links(graph)}
        found = [node_id for node_id in graph if node_id not in sources]
    else:
        found = [
            node_id
            for node_id, node in graph.items()
            if (info := object_info.node(node["class_type"])) is not None and info.output_node
        ]
    return tuple(sorted(found, key=lambda node_id: graph[node_id]["class_type"] in PREVIEWS))


def upstream(
    graph: Graph, starts: Sequence[str]
) -> tuple[tuple[str, ...], tuple[tuple[Link, ...], ...]]:
    """Return all nodes that ``starts`` depend on, themselves included, and the cycles among them.

    A cycle is its links in downstream-to-upstream order, the last one closing it.
    """
    done: dict[str, bool] = {}  # False while the node is on the path
    cycles: list[tuple[Link, ...]] = []
    for start in starts:
        # Without recursion: graphs of thousands of nodes in a row exist.
        path = [_sources(graph, start)] if start not in done else []
        taken: list[Link] = []
        done.setdefault(start, False)
        while path:
            link = next(path[-1], None)
            if link is None:
                path.pop()
                done[taken.pop().source if taken else start] = True
            elif link.source not in done:
                done[link.source] = False
                taken.append(link)
                path.append(_sources(graph, link.source))
            elif not done[link.source]:
                nodes = [step.node for step in taken] + [link.node]
                cycles.append((*taken[nodes.index(link.source) :], link))
    return tuple(done), tuple(cycles)


def _sources(graph: Graph, node_id: str) -> Iterator[Link]:
    for name, value in graph[node_id]["inputs"].items():
        if is_link(value) and value[0] in graph:
            yield Link(node_id, name, value[0], value[1])


def _kind(value: Any) -> str:
    names = {dict: "an object", list: "a list", str: "a text", bool: "a boolean"}
    return "null" if value is None else names.get(type(value), "a number")
