"""Group nodes, which came before subgraphs: each kind becomes a subgraph, each use an instance.

A definition lies in ``extra.groupNodes`` by name, a use has the type ``workflow>NAME`` (once
``workflow/NAME``). The inner nodes' ids are their positions, and the inputs and widgets of a use
are those of its inner nodes that nothing inside is linked to, under names made unique.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final

from atelier.comfy.object_info import ObjectInfo
from atelier.workflows.convert.editor import (
    INPUT_NODE,
    OUTPUT_NODE,
    Document,
    EditorGraph,
    EditorNode,
    Link,
    Slot,
    read_node,
    slot_type,
)
from atelier.workflows.convert.scopes import PRIMITIVE
from atelier.workflows.convert.widgets import Widget, face_of

_SEPARATORS: Final = (">", "/")
_NOTHING: Final = ("", "")


def replace_groups(
    document: Document, object_info: ObjectInfo
) -> tuple[Document, dict[str, EditorGraph]]:
    """Return ``document`` without group nodes, and all subgraphs with those made of them."""
    subgraphs = dict(document.subgraphs)
    if not document.groups:
        return document, subgraphs
    built: dict[str, _Group] = {}
    for name, definition in document.groups.items():
        group = _Group(definition, object_info)
        group.build()
        for separator in _SEPARATORS:
            subgraphs[f"workflow{separator}{name}"] = group.graph
            built[f"workflow{separator}{name}"] = group
    subgraphs = {key: _with_proxies(graph, built) for key, graph in subgraphs.items()}
    return replace(document, root=_with_proxies(document.root, built)), subgraphs


def _with_proxies(graph: EditorGraph, groups: Mapping[str, "_Group"]) -> EditorGraph:
    nodes = {
        node.id: replace(node, proxies=tuple(groups[node.type].places))
        if node.type in groups
        else node
        for node in graph.nodes.values()
    }
    return replace(graph, nodes=nodes)


@dataclass
class _Group:
    """One kind of group node. ``places`` say what each saved value of a use is for."""

    definition: Mapping[str, Any]
    object_info: ObjectInfo
    places: list[tuple[str, str]] = field(default_factory=list)
    graph: EditorGraph = field(default_factory=lambda: EditorGraph({}, {}))

    def build(self) -> None:
        self._nodes = [
            read_node(item, str(index), str(item.get("type") or ""))
            for index, item in enumerate(_rows(self.definition.get("nodes"), Mapping))
        ]
        self._links: dict[str, Link] = {}
        self._inputs: list[Slot] = []
        self._outputs: list[Slot] = []
        self._seen: dict[str, int] = {}
        self._linked: dict[tuple[int, str], str] = {}  # which link feeds an inner input
        self._join()
        converted: list[tuple[int, str, Widget]] = []
        for index, node in enumerate(self._nodes):
            converted += self._open(index, node)
        for index, name, widget in converted:
            self._add(index, name, widget)
        for index, node in enumerate(self._nodes):
            self._lead_out(index, node)
        nodes = {
            node.id: replace(node, inputs=tuple(self._rewired(index, node)))
            for index, node in enumerate(self._nodes)
        }
        self.graph = EditorGraph(nodes, self._links, "", tuple(self._inputs), tuple(self._outputs))

    def _join(self) -> None:
        """The links inside: [origin, slot, target, slot, ...] by position."""
        count = len(self._nodes)
        self._inner: set[tuple[int, int]] = set()
        for row in _rows(self.definition.get("links"), list):
            origin, origin_slot, target, slot = [*row, None, None, None, None][:4]
            if not all(isinstance(one, int) for one in (origin, origin_slot, target, slot)):
                continue
            if not (0 <= origin < count and 0 <= target < count):
                continue
            inputs = self._nodes[target].inputs
            if 0 <= slot < len(inputs):
                self._link(str(origin), origin_slot, target, inputs[slot].name)
                self._inner.add((origin, origin_slot))

    def _link(self, origin: str, origin_slot: int, target: int, name: str) -> None:
        link_id = str(len(self._links) + 1)
        # The slot's number is not needed: inner inputs know their links.
        self._links[link_id] = Link(origin, origin_slot, str(target), 0)
        self._linked[target, name] = link_id

    def _open(self, index: int, node: EditorNode) -> Iterator[tuple[int, str, Widget]]:
        """Make inputs of what nothing inside is linked to; yield widgets that became inputs."""
        info = self.object_info.node(node.type)
        if node.type == PRIMITIVE:
            if any(link.origin == node.id for link in self._links.values()):
                self._name(index, node, "value")
                self.places += [(node.id, "value"), _NOTHING]
            return
        if info is None:
            for slot in node.inputs if len(node.outputs) == 1 else ():
                through = (index, 0) in self._inner and (index, slot.name) in self._linked
                if not through:
                    self._add(index, slot.name, None, kind=node.outputs[0].type)
            return
        face = face_of(node, info)
        once_widgets = {slot.name for slot in node.inputs if slot.widget == slot.name}
        skipping = False
        for widget in face.widgets:
            if widget.spec is not None:
                skipping = widget.name in once_widgets
            if skipping:
                if widget.spec is not None:
                    yield index, widget.name, widget
            elif widget.spec is not None:
                self._add(index, widget.name, widget)
            elif widget.stored:
                self.places.append(_NOTHING)
        for slot in face.slots:
            if slot.widget is None:
                self._add(index, slot.name, None, kind=slot.type)

    def _add(self, index: int, name: str, widget: Widget | None, kind: str = "*") -> None:
        if (index, name) in self._linked:
            return
        node = self._nodes[index]
        outer = self._name(index, node, name)
        shown = self._config(index, "input", name).get("visible")
        if widget is None and shown is False:
            return
        self._link(INPUT_NODE, len(self._inputs), index, name)
        spec = widget.spec if widget is not None else None
        self._inputs.append(Slot(outer, spec.type if spec is not None else kind))
        if widget is not None and widget.stored:
            self.places.append(("-1", outer))
            seeds = ("seed", "noise_seed")
            if name in seeds and any(slot.widget == name for slot in node.inputs):
                self.places.append(_NOTHING)

    def _name(self, index: int, node: EditorNode, name: str) -> str:
        """The name that the group gives an inner input: its own, or one made unique."""
        given = self._config(index, "input", name).get("name")
        label = next((slot.label for slot in node.inputs if slot.name == name), None)
        made = key = str(given or label or name)
        if (node.type == PRIMITIVE and node.title) or made in self._seen:
            prefix = f"{node.title or node.type} "
            made = key = prefix + name
            if made in self._seen:
                made = f"{prefix}{self._seen[made]} {name}"
        self._seen[key] = self._seen.get(key, 1) + 1
        return made

    def _lead_out(self, index: int, node: EditorNode) -> None:
        external = {
            (row[0], row[1])
            for row in _rows(self.definition.get("external"), list)
            if len(row) > 1 and all(isinstance(one, int) for one in row[:2])
        }
        info = self.object_info.node(node.type)
        kinds = info.outputs if info is not None else tuple(slot.type for slot in node.outputs)
        if node.type == PRIMITIVE and not any(one[0] == index for one in self._inner):
            return
        for number, kind in enumerate(kinds):
            inside = (index, number) in self._inner and (index, number) not in external
            shown = self._config(index, "output", str(number)).get("visible")
            if inside if shown is None else not shown:
                continue
            link_id = str(len(self._links) + 1)
            self._links[link_id] = Link(node.id, number, OUTPUT_NODE, len(self._outputs))
            self._outputs.append(Slot(kind, slot_type(kind)))

    def _config(self, index: int, side: str, name: str) -> Mapping[str, Any]:
        found: Any = self.definition.get("config")
        for key in (str(index), side, name):
            found = found.get(key) if isinstance(found, Mapping) else None
        return found if isinstance(found, Mapping) else {}

    def _rewired(self, index: int, node: EditorNode) -> Iterator[Slot]:
        info = self.object_info.node(node.type)
        slots = face_of(node, info).slots if info is not None else node.inputs
        for slot in slots:
            yield replace(slot, link=self._linked.get((index, slot.name)))


def _rows(value: Any, kind: type) -> list[Any]:
    return [one for one in value if isinstance(one, kind)] if isinstance(value, list) else []
