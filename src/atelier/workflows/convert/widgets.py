"""Which widgets the front end gives a node, in its order, and which value each one has.

A saved graph has widgets' values by position, so every widget counts here, also those that only
the front end knows: what follows a seed, upload buttons, players and previews.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from atelier.comfy.object_info import InputSpec, NodeInfo, input_specs
from atelier.workflows.convert.editor import EditorNode, Slot

# Types of inputs that the front end has a widget for; inputs of all others are only linked.
_WIDGET_TYPES: Final = frozenset(
    {
        "AUDIO_RECORD",
        "BOOLEAN",
        "BOUNDING_BOX",
        "BOUNDING_BOXES",
        "CHART",
        "COLOR",
        "COLORS",
        "COMBO",
        "COMFY_DYNAMICCOMBO_V3",
        "CURVE",
        "FILEUPLOAD",
        "FLOAT",
        "GALLERIA",
        "IMAGECOMPARE",
        "IMAGEUPLOAD",
        "INT",
        "LOAD_3D",
        "LOAD_3D_ANIMATION",
        "MARKDOWN",
        "MULTISELECT",
        "PAINTER",
        "RANGE",
        "SELECTBUTTON",
        "STRING",
        "TEXTAREA",
        "TREESELECT",
        "WEBCAM",
    }
)
_SEEDS: Final = ("seed", "noise_seed")
_MEDIA_UPLOADS: Final = ("image_upload", "video_upload", "animated_image_upload")
# Nodes that show what they made: the widget that shows it is saved with the graph.
_AUDIO_PLAYERS: Final = frozenset(
    {"LoadAudio", "SaveAudio", "PreviewAudio", "SaveAudioMP3", "SaveAudioOpus"}
)
_VIEWERS: Final = frozenset({"SaveGLB", "Preview3D", "Preview3DAnimation"})


@dataclass(frozen=True, slots=True)
class Widget:
    """``stored``: it has a place in the saved values. ``exported``: the API graph has it."""

    name: str
    default: Any = None
    spec: InputSpec | None = None
    stored: bool = True
    exported: bool = True

    def clean(self, value: Any) -> Any:
        """``value`` as the widget would hold it."""
        if self.spec is None:
            return value
        if self.spec.type == "STRING" and self.spec.options.get("multiline"):
            return _text(value)
        if any(self.spec.options.get(key) for key in _MEDIA_UPLOADS):
            return self._file(value)
        return value

    def _file(self, value: Any) -> Any:
        folder = self.spec.options.get("image_folder", "input") if self.spec else "input"
        name = value or self.default
        if folder == "input" or not isinstance(name, str):
            return name
        marked = name.lower().endswith(("[input]", "[output]", "[temp]"))
        return name if marked else f"{name} [{folder}]"


@dataclass(frozen=True, slots=True)
class Face:
    """A node as the editor shows it: its input slots in order, its widgets and their values."""

    slots: tuple[Slot, ...]
    widgets: tuple[Widget, ...]
    values: Mapping[str, Any]

    def widget_at(self, slot: Slot) -> str | None:
        """The name of the widget that ``slot`` stands for, if the node has it."""
        name = slot.widget
        return name if name is not None and name in self.values else None


def face_of(node: EditorNode, info: NodeInfo) -> Face:
    """What the front end makes of ``node`` once it has loaded it."""
    widgets, sockets, values = _lay_out(list(info.inputs.values()), node, info)
    saved = {slot.name: slot for slot in node.inputs}
    names = [widget.spec.name for widget in widgets if widget.spec is not None]
    slots = [_slot(spec.name, spec.type, saved, widget=False) for spec in sockets]
    specs = {widget.name: widget.spec for widget in widgets if widget.spec is not None}
    slots += [_slot(name, specs[name].type, saved, widget=True) for name in names]
    defined = {slot.name for slot in slots}
    # Inputs that a node grows: they stay unless they stood for a widget that is gone.
    slots += [
        slot
        for slot in node.inputs
        if slot.name not in defined and (slot.widget is None or slot.widget in values)
    ]
    return Face(tuple(slots), tuple(widgets), values)


def guessed_face(node: EditorNode) -> Face | None:
    """The same for a class that nobody knows, if what was saved with the node tells it all.

    Newer front ends save a slot for every widget; None unless there is one for each value.
    """
    names = [slot.widget for slot in node.inputs if slot.widget is not None]
    widgets = []
    for name in names:
        widgets.append(Widget(name))
        if name in _SEEDS:
            widgets.append(_control(f"{name} control"))
    if isinstance(node.values, Mapping):
        values = {name: node.values[name] for name in names if name in node.values}
        return Face(node.inputs, tuple(map(Widget, values)), values)
    if len(node.values) == len(names):
        widgets = [Widget(name) for name in names]
    elif len(node.values) != len(widgets):
        return None
    pairs = zip(widgets, node.values, strict=True)
    return Face(node.inputs, tuple(widgets), {widget.name: value for widget, value in pairs})


def _slot(name: str, kind: str, saved: Mapping[str, Slot], *, widget: bool) -> Slot:
    before = saved.get(name)
    return Slot(
        name,
        kind,
        before.link if before is not None else None,
        name if widget else None,
        before.label if before is not None else None,
    )


def _lay_out(
    specs: Sequence[InputSpec], node: EditorNode, info: NodeInfo
) -> tuple[list[Widget], list[InputSpec], dict[str, Any]]:
    stored = _positions(specs, node.values)
    named = node.values if isinstance(node.values, Mapping) else {}
    widgets: list[Widget] = []
    sockets: list[InputSpec] = []
    values: dict[str, Any] = {}
    taken = 0
    pending = [*reversed(specs)]
    extras = [*_extras(info)]
    while pending or extras:
        made = [*_widgets(pending.pop())] if pending else [extras.pop(0)]
        for item in made:
            if isinstance(item, InputSpec):
                sockets.append(item)
                continue
            value = item.default
            if item.stored:
                value = stored[taken] if taken < len(stored) else value
                taken += 1
            value = named.get(item.name, value)
            widgets.append(item)
            values[item.name] = item.clean(value)
            if item.spec is not None and item.spec.type == "COMFY_DYNAMICCOMBO_V3":
                pending += reversed([*_chosen(item.spec, value)])
    return widgets, sockets, values


def _positions(specs: Sequence[InputSpec], values: Any) -> list[Any]:
    """The saved values without those of inputs that once were widgets and now are only linked."""
    if isinstance(values, Mapping):
        return []
    counted = [spec for spec in specs if _widget_type(spec) is not None or _forced(spec)]
    places = [spec for spec in counted for _ in range(2 if _controlled(spec) else 1)]
    if not any(map(_forced, counted)) or len(places) != len(values):
        return list(values)
    return [value for spec, value in zip(places, values, strict=True) if not _forced(spec)]


def _widgets(spec: InputSpec) -> Iterator[Widget | InputSpec]:
    kind = _widget_type(spec)
    if kind is None:
        yield spec
        return
    yield Widget(spec.name, _default(spec, kind), spec)
    if _controlled(spec):
        control = spec.options.get("control_after_generate")
        yield _control(control if isinstance(control, str) else "control_after_generate")
        if kind == "COMBO":
            yield _control("control_filter_list")
    if isinstance(remote := spec.options.get("remote"), Mapping):
        # Both are added by the front end before the list itself is there.
        if remote.get("refresh_button"):
            yield Widget("Auto-refresh after generation", False, exported=False)
            yield Widget("refresh", "refresh")
        else:
            yield Widget("Auto-refresh after generation", False, exported=False)


def _control(name: str) -> Widget:
    return Widget(name, "", exported=False)


def _extras(info: NodeInfo) -> Iterator[Widget]:
    """What the front end adds behind all inputs of some nodes."""
    required = [spec for spec in info.inputs.values() if spec.required]
    if info.class_type in _AUDIO_PLAYERS:
        yield Widget("audioUI", "", stored=False)
    if any(_uploads(spec) for spec in required):
        yield Widget("upload", "image", exported=False)
    if info.class_type in _VIEWERS:
        yield Widget("image", "")
    if info.class_type == "PreviewAny":
        yield Widget("preview", "", stored=False)


def _uploads(spec: InputSpec) -> bool:
    if spec.type == "COMBO" and any(spec.options.get(key) is True for key in _MEDIA_UPLOADS):
        return True
    return spec.name == "audio" and spec.options.get("audio_upload") is True


def _forced(spec: InputSpec) -> bool:
    return bool(spec.options.get("forceInput"))


def _widget_type(spec: InputSpec) -> str | None:
    kind = str(spec.options.get("widgetType") or spec.type)
    return kind if kind in _WIDGET_TYPES and not _forced(spec) else None


def _controlled(spec: InputSpec) -> bool:
    control = spec.options.get("control_after_generate")
    if _widget_type(spec) == "INT" and control is None:
        return spec.name in _SEEDS
    return bool(control)


def _default(spec: InputSpec, kind: str) -> Any:
    if kind in ("COMBO", "COMFY_DYNAMICCOMBO_V3"):
        if spec.default:
            return spec.default
        return spec.choices[0] if spec.choices else None
    blank = {"INT": 0, "FLOAT": 0, "BOOLEAN": False, "STRING": ""}
    return blank.get(kind) if spec.default is None else spec.default


def _chosen(spec: InputSpec, value: Any) -> Iterator[InputSpec]:
    """The inputs that a dynamic combo has while ``value`` is chosen, named below its own name."""
    options = spec.options.get("options")
    for option in options if isinstance(options, list | tuple) else ():
        if isinstance(option, Mapping) and option.get("key") == value:
            for inner in input_specs({"input": option.get("inputs")}):
                yield InputSpec(
                    f"{spec.name}.{inner.name}",
                    inner.type,
                    inner.required,
                    inner.choices,
                    inner.default,
                    inner.min,
                    inner.max,
                    inner.step,
                    inner.options,
                )
            return


def _text(value: Any) -> str:
    """What a text area makes of ``value``."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value).replace("\r\n", "\n").replace("\r", "\n")
