"""``convert``: the API graph of a graph in ComfyUI's UI format."""

import json
from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import Any, Final

from atelier.comfy.object_info import ObjectInfo
from atelier.errors import WorkflowError
from atelier.workflows.check import Problem
from atelier.workflows.convert.build import Builder
from atelier.workflows.convert.editor import EditorNode, is_editor_graph, read
from atelier.workflows.convert.groups import replace_groups
from atelier.workflows.convert.scopes import Circular, Fixed, Scope, Source, walk
from atelier.workflows.convert.text import Pick, first, replace_variables, resolve_choices
from atelier.workflows.convert.widgets import Face, Widget
from atelier.workflows.graph import Graph
from atelier.workflows.nearest import listed, nearest

# Core nodes that have no display name of their own but are given one by the front end.
_TITLES: Final = {
    "ImageBlend": "Image Blend",
    "ImageBlur": "Image Blur",
    "ImageQuantize": "Image Quantize",
    "ImageScaleToTotalPixels": "Scale Image to Total Pixels",
    "ImageSharpen": "Image Sharpen",
}
# Nodes whose file name may hold %node.widget%.
_SAVERS: Final = frozenset(
    {
        "CLIPSave",
        "LoraSave",
        "ModelSave",
        "SaveAnimatedPNG",
        "SaveAnimatedWEBP",
        "SaveAudio",
        "SaveGLB",
        "SaveImage",
        "SaveLatent",
        "SaveWEBM",
        "VAESave",
    }
)


class ConversionFailed(WorkflowError):
    """It can't become an API graph; ``data["node_errors"]`` lists all that is wrong with it."""

    code = "WORKFLOW_VALIDATION_ERROR"
    default_hint = (
        "Install the missing nodes on an instance, or in ComfyUI choose Workflow > Export (API) "
        "and send the content of that file."
    )

    def __init__(self, problems: Sequence[Problem]) -> None:
        super().__init__(
            " ".join(f"{problem.message.rstrip('.')}." for problem in problems),
            node=problems[0].node or None,
            node_errors=[problem.as_dict() for problem in problems],
        )
        self.problems = tuple(problems)


def convert(
    body: Any, object_info: ObjectInfo, *, pick: Pick = first, now: datetime | None = None
) -> Graph:
    """Return what the front end's "Export (API)" would save for ``body`` at that instance.

    ``pick`` decides ``{a|b}`` in prompts, ``now`` fills dates into file names. Nodes inside
    subgraphs get ids such as ``12:7``. Raises ConversionFailed with all problems.
    """
    problems: list[Problem] = []
    if not is_editor_graph(body):
        raise ConversionFailed([_malformed("It is not in ComfyUI's UI format: it has no nodes")])
    document, subgraphs = replace_groups(read(body, problems), object_info)
    root = Builder(document, subgraphs, object_info, problems).build()
    export = _Export(root, object_info, problems, pick, now)
    graph = export.graph() if not problems else {}
    if not graph and not problems:
        problems.append(_malformed("The graph has no node that runs"))
    if problems:
        raise ConversionFailed(problems)
    return graph


class _Export:
    def __init__(
        self,
        root: Scope,
        object_info: ObjectInfo,
        problems: list[Problem],
        pick: Pick,
        now: datetime | None,
    ) -> None:
        self._object_info = object_info
        self._problems = problems
        self._pick = pick
        self._now = now
        self._places = list(walk(root))
        self._close: dict[str, tuple[str, ...]] = {}

    def graph(self) -> Graph:
        graph: Graph = {}
        for scope, node in self._places:
            if scope.roles[node.id] != "node" or node.off or scope.off:
                continue
            face = scope.faces.get(node.id)
            if face is None:
                self._problems.append(self._missing(scope.path + node.id, node))
                continue
            graph[scope.path + node.id] = {
                "inputs": dict(self._inputs(scope, node, face)),
                "class_type": node.type,
                "_meta": {"title": node.title or self._called(node.type)},
            }
        return graph

    def _called(self, class_type: str) -> str:
        info = self._object_info.node(class_type)
        name = info.display_name if info is not None else class_type
        return _TITLES.get(class_type, name) if name == class_type else name

    def _inputs(self, scope: Scope, node: EditorNode, face: Face) -> Iterator[tuple[str, Any]]:
        """Values first, then links: what is linked is not what the widget says."""
        for widget in face.widgets:
            if widget.exported:
                yield widget.name, self._written(scope, node, widget)
        for number, slot in enumerate(scope.slots(node)):
            try:
                source = scope.source(node, number)
            except Circular:
                message = f"Node {scope.path}{node.id}: {slot.name} is linked in a circle"
                problem = _problem(scope.path + node.id, node, slot.name, "cycle", message)
                self._problems.append(problem)
                continue
            if isinstance(source, Fixed):
                yield slot.name, _wrapped(source.value)
            elif isinstance(source, Source):
                yield slot.name, [source.node, source.slot]

    def _written(self, scope: Scope, node: EditorNode, widget: Widget) -> Any:
        value = widget.clean(scope.value(node, widget.name))
        if isinstance(value, str):
            if widget.spec is not None and widget.spec.options.get("dynamicPrompts") is True:
                return resolve_choices(value, self._pick)
            if widget.name == "filename_prefix" and node.type in _SAVERS:
                return replace_variables(value, self._look_up, self._now)
        if widget.spec is not None and widget.spec.type == "CURVE" and value is not None:
            return {"__type__": "CURVE", "__value__": value}
        return _wrapped(value)

    def _look_up(self, name: str, widget: str) -> str | None:
        """What ``%name.widget%`` stands for: the node is known by its alias, then its title."""
        alias = [one for one in self._places if one[1].properties.get("Node name for S&R") == name]
        titled = [one for one in self._places if one[1].title == name]
        for scope, node in (alias or titled)[:1]:
            face = scope.faces.get(node.id)
            if face is not None and widget in face.values:
                return _as_text(scope.value(node, widget))
        return None

    def _missing(self, node_id: str, node: EditorNode) -> Problem:
        known = self._object_info.classes
        if node.type not in self._close:
            self._close[node.type] = nearest(node.type, sorted(known))
        close = self._close[node.type]
        called = f' ("{node.title}")' if node.title else ""
        message = (
            f"Node {node_id}{called}: there is no node {node.type} "
            f"({listed(close[:3], len(known))})."
        )
        return Problem(node_id, node.type, "", "node_missing", message, close, len(known))


def _problem(node_id: str, node: EditorNode, name: str, code: Any, message: str) -> Problem:
    return Problem(node_id, node.type, name, code, f"{message}.")


def _malformed(message: str) -> Problem:
    return Problem("", "", "", "malformed", f"{message}.")


def _wrapped(value: Any) -> Any:
    # A bare list would be read as a link.
    return {"__value__": list(value)} if isinstance(value, list | tuple) else value


def _as_text(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return value if isinstance(value, str) else json.dumps(value)
