"""ComfyUI's UI format as values: nodes with slots, links by id, subgraphs by id.

Two versions exist: 0.4 has links as ``[id, origin, slot, target, slot, type]``, 1.0 as objects;
subgraphs have objects in both. Either is taken anywhere. Ids become texts.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from atelier.workflows.check import Problem
from atelier.workflows.problem import shown

MUTED: Final = 2
BYPASSED: Final = 4
# Classes that were renamed; the front end knows their old names.
_RENAMED: Final = {
    "T2IAdapterLoader": "ControlNetLoader",
    "ConditioningAverage ": "ConditioningAverage",
    "SDV_img2vid_Conditioning": "SVD_img2vid_Conditioning",
}
# A subgraph's own inputs and outputs are nodes in it, under ids that no other node has.
INPUT_NODE: Final = "-10"
OUTPUT_NODE: Final = "-20"


@dataclass(frozen=True, slots=True)
class Slot:
    """An input or output. ``link`` is only an input's; ``widget`` names the widget it stands for.

    ``links`` are, for a subgraph's own inputs and outputs, those inside it in their order.
    """

    name: str
    type: str
    link: str | None = None
    widget: str | None = None
    label: str | None = None
    links: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Link:
    origin: str
    origin_slot: int
    target: str
    target_slot: int


@dataclass(frozen=True, slots=True)
class EditorNode:
    """``values`` are the widgets' values: by position, or by name as some custom nodes save them.

    ``proxies`` are an instance's ``(inner node, widget)`` pairs that ``values`` are for.
    """

    id: str
    type: str
    title: str | None = None
    mode: int = 0
    inputs: tuple[Slot, ...] = ()
    outputs: tuple[Slot, ...] = ()
    values: Sequence[Any] | Mapping[str, Any] = ()
    proxies: tuple[tuple[str, str], ...] = ()
    properties: Mapping[str, Any] = field(default_factory=dict)

    @property
    def off(self) -> bool:
        return self.mode in (MUTED, BYPASSED)


@dataclass(frozen=True, slots=True)
class EditorGraph:
    """The whole graph, or a subgraph's definition with its ``inputs`` and ``outputs``."""

    nodes: Mapping[str, EditorNode]
    links: Mapping[str, Link]
    name: str = ""
    inputs: tuple[Slot, ...] = ()
    outputs: tuple[Slot, ...] = ()

    def entering(self, number: int) -> Iterator[tuple[str, Link]]:
        """The links inside, by id, that a subgraph's input ``number`` feeds."""
        slot = self.inputs[number] if 0 <= number < len(self.inputs) else Slot("", "")
        for link_id in slot.links or self.links:
            link = self.links.get(link_id)
            if link and link.origin == INPUT_NODE and link.origin_slot == number:
                yield link_id, link

    def leaving(self, number: int) -> Link | None:
        """The link inside that feeds a subgraph's output ``number``."""
        slot = self.outputs[number] if 0 <= number < len(self.outputs) else Slot("", "")
        for link_id in slot.links or self.links:
            link = self.links.get(link_id)
            if link and link.target == OUTPUT_NODE and link.target_slot == number:
                return link
        return None


@dataclass(frozen=True, slots=True)
class Document:
    """A saved workflow; ``groups`` are group nodes' definitions as they stand, by name."""

    root: EditorGraph
    subgraphs: Mapping[str, EditorGraph]
    groups: Mapping[str, Mapping[str, Any]]


def is_editor_graph(body: Any) -> bool:
    """True for what looks like the UI format, however wrong the rest of it is."""
    return isinstance(body, Mapping) and isinstance(body.get("nodes"), list)


def read(body: Mapping[str, Any], problems: list[Problem]) -> Document:
    """Return what ``body`` holds; what is malformed is left out and told in ``problems``."""
    definitions = _mapping(body.get("definitions")).get("subgraphs")
    subgraphs: dict[str, EditorGraph] = {}
    pending = [one for one in _list(definitions) if isinstance(one, Mapping)]
    while pending:
        definition = pending.pop()
        subgraphs.setdefault(identifier(definition.get("id")) or "", _graph(definition, problems))
        # Definitions may stand within each other.
        inner = _mapping(definition.get("definitions")).get("subgraphs")
        pending += [one for one in _list(inner) if isinstance(one, Mapping)]
    groups = _mapping(_mapping(body.get("extra")).get("groupNodes"))
    return Document(
        _graph(body, problems),
        subgraphs,
        {str(name): group for name, group in groups.items() if isinstance(group, Mapping)},
    )


def identifier(value: Any) -> str | None:
    """The text of an id, which files hold as a number or a text; None where it is neither."""
    if isinstance(value, bool) or not isinstance(value, int | str) or value == "":
        return None
    return str(value)


def _graph(body: Mapping[str, Any], problems: list[Problem]) -> EditorGraph:
    nodes: dict[str, EditorNode] = {}
    for number, item in enumerate(_list(body.get("nodes"))):
        node = _node(item, number, problems)
        if node is not None:
            nodes[node.id] = node
    links = dict(filter(None, map(_link, _list(body.get("links")))))
    return EditorGraph(
        nodes,
        links,
        str(body.get("name") or ""),
        read_slots(body.get("inputs")),
        read_slots(body.get("outputs")),
    )


def _node(item: Any, number: int, problems: list[Problem]) -> EditorNode | None:
    if not isinstance(item, Mapping):
        problems.append(_malformed("", "", f"nodes[{number}] is no object: {shown(item)}"))
        return None
    node_id, kind = identifier(item.get("id")), item.get("type")
    if node_id is None:
        problems.append(_malformed("", str(kind or ""), f"nodes[{number}] has no id"))
        return None
    if not isinstance(kind, str) or not kind:
        problems.append(_malformed(node_id, "", f"Node {node_id} has no type"))
        return None
    return read_node(item, node_id, kind)


def read_node(item: Mapping[str, Any], node_id: str, kind: str) -> EditorNode:
    """A node of a type and an id that are known already."""
    title, mode, values = item.get("title"), item.get("mode"), item.get("widgets_values")
    properties = _mapping(item.get("properties"))
    pairs = (
        (identifier(one[0]), one[1])
        for one in _list(properties.get("proxyWidgets"))
        if isinstance(one, list | tuple) and len(one) >= 2
    )
    return EditorNode(
        node_id,
        _RENAMED.get(kind, kind),
        title if isinstance(title, str) and title else None,
        mode if isinstance(mode, int) else 0,
        read_slots(item.get("inputs")),
        read_slots(item.get("outputs")),
        values if isinstance(values, Mapping) else _list(values),
        tuple((inner or "", str(name)) for inner, name in pairs),
        properties,
    )


def read_slots(body: Any) -> tuple[Slot, ...]:
    return tuple(_slot(item if isinstance(item, Mapping) else {}) for item in _list(body))


def _slot(item: Mapping[str, Any]) -> Slot:
    widget, label = _mapping(item.get("widget")).get("name"), item.get("label")
    return Slot(
        str(item.get("name") or ""),
        slot_type(item.get("type")),
        identifier(item.get("link")),
        str(widget) if widget is not None else None,
        label if isinstance(label, str) and label else None,
        tuple(filter(None, map(identifier, _list(item.get("linkIds"))))),
    )


def slot_type(value: Any) -> str:
    """The type of a slot: a text; a list of choices is a COMBO."""
    if isinstance(value, list | tuple):
        return "COMBO"
    return value if isinstance(value, str) else "*" if value in (None, 0, -1) else str(value)


def _link(item: Any) -> tuple[str, Link] | None:
    if isinstance(item, Mapping):
        keys = ("id", "origin_id", "origin_slot", "target_id", "target_slot")
        item = [item.get(key) for key in keys]
    if not isinstance(item, list | tuple) or len(item) < 5:
        return None
    link, origin, target = identifier(item[0]), identifier(item[1]), identifier(item[3])
    if link is None or origin is None or target is None:
        return None
    return link, Link(origin, _number(item[2]), target, _number(item[4]))


def _number(value: Any) -> int:
    # A slot may be saved as a text; what is no number is a slot that isn't there.
    if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) < 10:
        return int(value)
    return value if isinstance(value, int) and not isinstance(value, bool) else -1


def _malformed(node: str, kind: str, message: str) -> Problem:
    return Problem(node, kind, "", "malformed", f"{message}.")


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _list(value: Any) -> list[Any]:
    return list(value) if isinstance(value, list | tuple) else []
