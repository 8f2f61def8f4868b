"""A saved graph with every subgraph in place: who feeds an input, and which value a widget has.

Each use of a subgraph is a scope of its own; a node in it has the id ``outer:inner``. Links are
followed as the front end follows them: through reroutes, into and out of subgraphs, past what is
bypassed, and not at all from what is muted.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Final, Literal

from atelier.workflows.convert.editor import (
    BYPASSED,
    INPUT_NODE,
    MUTED,
    EditorGraph,
    EditorNode,
    Slot,
)
from atelier.workflows.convert.widgets import Face

# What only the editor knows: notes, and buttons of widely used node packs.
_DECORATION: Final = frozenset(
    {
        "Note",
        "MarkdownNote",
        "Bookmark (rgthree)",
        "Fast Actions Button (rgthree)",
        "Fast Bypasser (rgthree)",
        "Fast Groups Bypasser (rgthree)",
        "Fast Groups Muter (rgthree)",
        "Fast Muter (rgthree)",
        "Label (rgthree)",
        "Mute / Bypass Relay (rgthree)",
        "Mute / Bypass Repeater (rgthree)",
        "Node Collector (rgthree)",
        "Random Unmuter (rgthree)",
    }
)
PRIMITIVE: Final = "PrimitiveNode"
_SETTER: Final = "SetNode"
_GETTER: Final = "GetNode"
_ABSENT: Final = object()

Role = Literal["node", "subgraph", "reroute", "primitive", "setter", "getter", "decoration"]


class Circular(Exception):
    """A link leads through reroutes or bypassed nodes back to where it came from."""


@dataclass(frozen=True, slots=True)
class Source:
    """What feeds an input: ``slot`` of the node ``node`` (its full id)."""

    node: str
    slot: int


@dataclass(frozen=True, slots=True)
class Fixed:
    """An input that is fed by a widget of the subgraph that it is in."""

    value: Any


def role_of(node: EditorNode, known: Callable[[str], bool], subgraphs: Mapping[str, Any]) -> Role:
    """What a node is for; ``known`` tells whether an instance has a class of that name."""
    if node.type in subgraphs:
        return "subgraph"
    if known(node.type):
        return "node"
    if node.type == PRIMITIVE:
        return "primitive"
    if node.type in _DECORATION:
        return "decoration"
    if node.type in (_SETTER, _GETTER):
        return "setter" if node.type == _SETTER else "getter"
    passes_on = len(node.inputs) == 1 and len(node.outputs) == 1
    return "reroute" if node.type.startswith("Reroute") and passes_on else "node"


@dataclass(eq=False)
class Scope:
    """One use of ``graph``: the whole (no ``instance``), or a subgraph in ``parent``."""

    graph: EditorGraph
    roles: Mapping[str, Role]
    faces: Mapping[str, Face]
    instance: EditorNode | None = None
    parent: "Scope | None" = None
    inner: "dict[str, Scope]" = field(default_factory=dict)
    _seen: dict[tuple[str, str], Any] = field(default_factory=dict)

    @cached_property
    def path(self) -> str:
        """What stands before the ids of the nodes in here."""
        if self.parent is None or self.instance is None:
            return ""
        return f"{self.parent.path}{self.instance.id}:"

    @cached_property
    def depth(self) -> int:
        return 0 if self.parent is None else self.parent.depth + 1

    @cached_property
    def off(self) -> bool:
        """True if a subgraph around this is muted or bypassed."""
        if self.parent is None or self.instance is None:
            return False
        return self.instance.off or self.parent.off

    def slots(self, node: EditorNode) -> tuple[Slot, ...]:
        """The input slots of ``node`` as they are now, whatever they were when it was saved."""
        if self.roles[node.id] == "subgraph":
            return self.inner[node.id].hosted
        face = self.faces.get(node.id)
        return face.slots if face is not None else node.inputs

    def output_type(self, node: EditorNode, slot: int) -> str:
        inner = self.inner.get(node.id)
        outputs = inner.graph.outputs if inner is not None else node.outputs
        return outputs[slot].type if 0 <= slot < len(outputs) else "*"

    @cached_property
    def hosted(self) -> tuple[Slot, ...]:
        """The inputs of the instance of this subgraph, with its links."""
        saved = {slot.name: slot for slot in self.instance.inputs} if self.instance else {}
        made = []
        for number, slot in enumerate(self.graph.inputs):
            before = saved.get(slot.name)
            widget = slot.name if self.promoted(number) is not None else None
            made.append(Slot(slot.name, slot.type, before.link if before else None, widget))
        return tuple(made)

    def promoted(self, number: int) -> tuple[EditorNode, str] | None:
        """The first widget that the subgraph's input ``number`` sets: its node and name."""
        for link_id, link in self.graph.entering(number):
            node = self.graph.nodes.get(link.target)
            if node is None:
                continue
            slot = next((one for one in self.slots(node) if one.link == link_id), None)
            if slot is None:
                continue
            if self.roles[node.id] == "subgraph":
                if slot.widget is not None:
                    return node, slot.name
            elif (face := self.faces.get(node.id)) and (name := face.widget_at(slot)):
                return node, name
        return None

    # -- values

    def value(self, node: EditorNode, name: str) -> Any:
        """The value of a widget, here: a subgraph's own or its user's, or a primitive's."""
        key = (node.id, name)
        if key not in self._seen:
            self._seen[key] = self._value(node, name)
        return self._seen[key]

    def _value(self, node: EditorNode, name: str) -> Any:
        if (node.id, name) in self._proxied:
            return self._proxied[node.id, name]
        slot = next((slot for slot in self.slots(node) if slot.widget == name), None)
        link = self.graph.links.get(slot.link) if slot is not None and slot.link else None
        if link is not None and link.origin == INPUT_NODE:
            value = self.host_value(link.origin_slot)
            if value is not _ABSENT:
                return value
        origin = self.graph.nodes.get(link.origin) if link is not None else None
        if origin is not None and self.roles[origin.id] == "primitive":
            return self._primitive(origin, node, name)
        return self._own(node, name)

    def host_value(self, number: int) -> Any:
        """What the user of this subgraph has set for its input ``number``, or _ABSENT."""
        if self.parent is None or self.instance is None or not 0 <= number < len(self.hosted):
            return _ABSENT
        slot = self.hosted[number]
        return _ABSENT if slot.widget is None else self.parent.value(self.instance, slot.name)

    def _own(self, node: EditorNode, name: str) -> Any:
        inner = self.inner.get(node.id)
        if inner is not None:
            return inner.as_saved(name)
        face = self.faces.get(node.id)
        return face.values.get(name) if face is not None else None

    def _primitive(self, primitive: EditorNode, node: EditorNode, name: str) -> Any:
        values = primitive.values
        if (primitive.id, "value") in self._own_proxied:
            values = [self._own_proxied[primitive.id, "value"]]
        if isinstance(values, Mapping):
            return values.get("value", self._own(node, name))
        face = self.faces.get(node.id)
        widget = next((one for one in face.widgets if one.name == name), None) if face else None
        if not values:
            return self._own(node, name)
        return widget.clean(values[0]) if widget is not None else values[0]

    def as_saved(self, name: str) -> Any:
        """What the instance of this subgraph has for its own widget ``name``."""
        if ("-1", name) in self._own_proxied:
            return self._own_proxied["-1", name]
        if self.instance is None:
            return None
        values = self.instance.values
        widgets = [slot.name for slot in self.hosted if slot.widget is not None]
        if isinstance(values, Mapping):
            if name in values:
                return values[name]
        elif name in widgets and widgets.index(name) < len(values):
            return values[widgets.index(name)]
        number = next((i for i, slot in enumerate(self.hosted) if slot.name == name), -1)
        found = self.promoted(number)
        return self._own(*found) if found is not None else None

    @cached_property
    def _own_proxied(self) -> dict[tuple[str, str], Any]:
        """What the instance says for widgets inside, by inner node and name."""
        if self.instance is None or isinstance(self.instance.values, Mapping):
            return {}
        return dict(zip(self.instance.proxies, self.instance.values, strict=False))

    @cached_property
    def _proxied(self) -> dict[tuple[str, str], Any]:
        """The same without those that are inputs of the subgraph: their user may set them."""
        return {
            (node_id, name): value
            for (node_id, name), value in self._own_proxied.items()
            if node_id in self.graph.nodes and not self._is_hosted(node_id, name)
        }

    def _is_hosted(self, node_id: str, name: str) -> bool:
        node = self.graph.nodes[node_id]
        slot = next((slot for slot in self.slots(node) if slot.widget == name), None)
        link = self.graph.links.get(slot.link) if slot is not None and slot.link else None
        return link is not None and link.origin == INPUT_NODE

    # -- links

    def source(self, node: EditorNode, number: int) -> Source | Fixed | None:
        """What feeds input ``number`` of ``node``, or None if nothing does.

        Raises Circular.
        """
        return _Walk(self, node).into(number)

    def getter(self, node: EditorNode) -> EditorNode | None:
        """The SetNode whose name the GetNode ``node`` has, here or further out."""
        name = _named(node)
        for other in self.graph.nodes.values():
            if self.roles[other.id] == "setter" and _named(other) == name:
                return other
        return None


def _named(node: EditorNode) -> Any:
    return node.values[0] if not isinstance(node.values, Mapping) and node.values else None


@dataclass
class _Walk:
    """Follows one link to its origin; a place visited twice ends it."""

    scope: Scope
    node: EditorNode
    seen: set[tuple[str, str, int]] = field(default_factory=set)

    def into(self, number: int, kind: str | None = None) -> Source | Fixed | None:
        step: tuple[str, int, str | None] | Source | Fixed | None = ("in", number, kind)
        while isinstance(step, tuple):
            side, slot, kind = step
            place = (self.scope.path + self.node.id, side, slot)
            if place in self.seen:
                raise Circular
            self.seen.add(place)
            step = self._into(slot, kind) if side == "in" else self._out(slot, kind or "*")
        return step

    def _into(
        self, number: int, kind: str | None
    ) -> tuple[str, int, str | None] | Source | Fixed | None:
        slots = self.scope.slots(self.node)
        slot = slots[number] if 0 <= number < len(slots) else None
        link = self.scope.graph.links.get(slot.link) if slot is not None and slot.link else None
        if slot is None or link is None:
            return None
        if link.origin == INPUT_NODE:
            return self._up(link.origin_slot)
        origin = self.scope.graph.nodes.get(link.origin)
        if origin is None:
            return None
        self.node = origin
        return "out", link.origin_slot, kind or slot.type

    def _up(self, number: int) -> tuple[str, int, str | None] | Fixed | None:
        scope, instance = self.scope, self.scope.instance
        if scope.parent is None or instance is None or not 0 <= number < len(scope.hosted):
            return None
        if scope.hosted[number].link not in scope.parent.graph.links:
            value = scope.host_value(number)
            return None if value is _ABSENT else Fixed(value)
        self.scope, self.node = scope.parent, instance
        return "in", number, None

    def _out(self, slot: int, kind: str) -> tuple[str, int, str | None] | Source | None:
        role = self.scope.roles[self.node.id]
        if self.node.mode == MUTED:
            return None
        if self.node.mode == BYPASSED:
            number = self._bypass(slot, kind)
            return None if number is None else ("in", number, None)
        if role == "subgraph":
            return self._down(slot, kind)
        if role in ("reroute", "setter"):
            return "in", slot, kind
        if role == "getter":
            found = self.scope.getter(self.node)
            if found is None:
                return None
            self.node = found
            return "in", 0, kind
        if role in ("primitive", "decoration"):
            return None
        return Source(self.scope.path + self.node.id, slot)

    def _down(self, slot: int, kind: str) -> tuple[str, int, str | None] | None:
        inner = self.scope.inner[self.node.id]
        link = inner.graph.leaving(slot)
        if link is None:
            return None
        if link.origin == INPUT_NODE:  # straight through
            return "in", link.origin_slot, None
        origin = inner.graph.nodes.get(link.origin)
        if origin is None:
            return None
        self.scope, self.node = inner, origin
        return "out", link.origin_slot, kind

    def _bypass(self, slot: int, kind: str) -> int | None:
        """The input that takes the place of output ``slot`` for a target of type ``kind``."""
        slots = self.scope.slots(self.node)
        if kind in ("*", ""):
            return slot if slot < len(slots) else 0
        output = self.scope.output_type(self.node, slot)

        def fits(one: Slot) -> bool:
            return connects(one.type, output) and connects(one.type, kind)

        if 0 <= slot < len(slots) and fits(slots[slot]):
            return slot
        exact = (number for number, one in enumerate(slots) if one.type == kind)
        loose = (number for number, one in enumerate(slots) if fits(one))
        return next(exact, next(loose, None))


def connects(first: str, second: str) -> bool:
    """Whether the editor lets a link be made between two types; a comma separates alternatives."""
    if first in ("", "*") or second in ("", "*"):
        return True
    left, right = ({one.strip().lower() for one in side.split(",")} for side in (first, second))
    return bool(left & right)


def walk(scope: Scope) -> Iterator[tuple[Scope, EditorNode]]:
    """Every node with the scope that it is in, a subgraph's nodes where its instance stands."""
    for node in scope.graph.nodes.values():
        inner = scope.inner.get(node.id)
        if inner is None:
            yield scope, node
        else:
            yield from walk(inner)
