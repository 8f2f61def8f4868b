"""What a node class is: its inputs as ComfyUI's /object_info tells them, and what it runs."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeAlias

import numpy as np
import numpy.typing as npt

from atelier.engine.folders import Folders

Floats: TypeAlias = npt.NDArray[np.float32]  # IMAGE: BxHxWxC, MASK: BxHxW; 0 to 1
Bytes: TypeAlias = npt.NDArray[np.uint8]

MAX_RESOLUTION = 16384
MOST_BYTES = 2 * 1024**3


class Context(Protocol):
    """What a running node may ask of the prompt that it runs in."""

    @property
    def folders(self) -> Folders: ...
    @property
    def prompt(self) -> Mapping[str, Any]: ...
    @property
    def extra_pnginfo(self) -> Mapping[str, Any]: ...

    def check_interrupted(self) -> None:
        """Raise Interrupted when the prompt was interrupted."""

    def progress(self, value: int, maximum: int, picture: Bytes | None = None) -> None:
        """Tell the client that ``value`` of ``maximum`` steps are done.

        ``picture`` (HxWxC) is delivered whole, as PNG. Raises Interrupted.
        """

    def preview(self, picture: Bytes) -> None:
        """Show the client the picture so far (RGB, HxWx3), made small, as JPEG."""


@dataclass(frozen=True, slots=True)
class Input:
    """``type`` is ComfyUI's name of a type, the choices, or what lists them.

    ``options`` None is left out of /object_info, as ComfyUI does.
    """

    type: str | tuple[str, ...] | Callable[[Folders], list[str]]
    options: Mapping[str, Any] | None = None

    @property
    def choices(self) -> tuple[str, ...] | None:
        """The values that are allowed, None when any is, or when they are found on disk."""
        if isinstance(self.type, tuple):
            return self.type
        if self.type == "COMBO" and self.options and "options" in self.options:
            return tuple(self.options["options"])
        return None

    def told_type(self, folders: Folders) -> str | list[str]:
        """Return the type as /object_info tells it."""
        if isinstance(self.type, tuple):
            return list(self.type)
        return self.type if isinstance(self.type, str) else self.type(folders)


class Output:
    """What a node returns: ``values`` for its outputs, ``ui`` for the client (or None)."""

    __slots__ = ("ui", "values")

    def __init__(self, *values: Any, ui: Mapping[str, Any] | None = None) -> None:
        self.values = values
        self.ui = ui


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeClass:
    """A node that graphs can name.

    ``run`` gets the inputs by name, and ``context`` first if ``contextual``. ``fingerprint``
    tells what else the result depends on, ``check`` why the inputs named in ``checked`` are
    wrong (or None); both get the folders, then the constant inputs by name. ``schema`` is the
    generation of ComfyUI's node interface whose /object_info entry is told. A node that
    ``takes_frames`` can do without having all pictures of an IMAGE in memory.
    """

    name: str
    run: Callable[..., Output]
    required: Mapping[str, Input]
    outputs: tuple[str, ...]
    category: str
    module: str = "nodes"
    optional: Mapping[str, Input] = field(default_factory=dict)
    hidden: Mapping[str, str] = field(default_factory=dict)
    output_names: tuple[str, ...] | None = None
    output_node: bool = False
    display_name: str | None = None
    description: str = ""
    experimental: bool = False
    schema: int = 1
    contextual: bool = False
    takes_frames: bool = False
    fingerprint: Callable[..., str] | None = None
    check: Callable[..., str | None] | None = None
    checked: tuple[str, ...] = ()
    inputs: Mapping[str, Input] = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "inputs", {**self.required, **self.optional})

    def info(self, folders: Folders) -> dict[str, Any]:
        """Return the node's entry in /object_info."""
        groups = {"required": self.required, "optional": self.optional}
        told: dict[str, Any] = {
            kind: {name: _told(item, folders) for name, item in items.items()}
            for kind, items in groups.items()
            if items or kind == "required"
        }
        if self.hidden:
            told["hidden"] = {
                name: [kind] if self.schema == 3 else kind for name, kind in self.hidden.items()
            }
        info: dict[str, Any] = {
            "input": told,
            "input_order": {kind: list(items) for kind, items in told.items()},
            "output": list(self.outputs),
            "output_is_list": [False] * len(self.outputs),
            "output_name": list(self.output_names or self.outputs),
            "name": self.name,
            "display_name": self._told_display_name(),
            "description": self.description,
            "python_module": self.module,
            "category": self.category,
            "output_node": self.output_node,
        }
        if self.schema == 3:
            info |= {
                "output_tooltips": [None] * len(self.outputs),
                "deprecated": False,
                "experimental": self.experimental,
                "api_node": False,
            }
        elif self.experimental:
            info["experimental"] = True
        return info

    def _told_display_name(self) -> str | None:
        # ComfyUI's newer schema leaves the name empty, its older one repeats the class.
        return self.display_name if self.schema == 3 else self.display_name or self.name


def _told(item: Input, folders: Folders) -> list[Any]:
    told: list[Any] = [item.told_type(folders)]
    return told if item.options is None else [*told, dict(item.options)]


IMAGE = Input("IMAGE")
MASK = Input("MASK")


def integer(default: int, low: int, high: int, **options: Any) -> Input:
    return Input("INT", {"default": default, "min": low, "max": high, **options})


def number(default: float, low: float, high: float, step: float) -> Input:
    return Input("FLOAT", {"default": default, "min": low, "max": high, "step": step})


def choice(*names: str) -> Input:
    return Input(names)


def length(default: int = 512, low: int = 1, step: int = 1) -> Input:
    """An input for a number of pixels along a side."""
    return integer(default, low, MAX_RESOLUTION, step=step)


def require_memory(*shape: int) -> None:
    """Raise MemoryError if a float picture of ``shape`` would take more than 2 GiB."""
    size = 4
    for extent in shape:
        size *= extent
    if size > MOST_BYTES:
        text = "x".join(str(extent) for extent in shape)
        raise MemoryError(f"A picture of {text} would take {size / 1024**3:.1f} GiB; 2 is the most")
