"""What ComfyUI and its clients say to each other, as values."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

_SHOWN_3D: Final = (".glb", ".gltf", ".obj", ".fbx", ".stl", ".ply", ".splat", ".ksplat", ".spz")


@dataclass(frozen=True, slots=True)
class Status:
    """The queue's length changed; ``sid`` only in the first message on a socket."""

    queue_remaining: int | None
    sid: str | None = None


@dataclass(frozen=True, slots=True)
class FeatureFlags:
    """What the sender understands; the first message in either direction."""

    flags: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class ExecutionStart:
    prompt_id: str
    timestamp_ms: int = 0


@dataclass(frozen=True, slots=True)
class ExecutionCached:
    """``nodes`` need not run again; those among them that have outputs still send ``Executed``."""

    prompt_id: str
    nodes: tuple[str, ...]
    timestamp_ms: int = 0


@dataclass(frozen=True, slots=True)
class Executing:
    """``node`` runs now; None: the prompt has ended, in whatever way.

    ``prompt_id`` is None in the message that greets a client who reconnects.
    """

    prompt_id: str | None
    node: str | None
    display_node: str | None = None


@dataclass(frozen=True, slots=True)
class Progress:
    """Steps done within one node."""

    prompt_id: str | None
    node: str | None
    value: float
    max: float


@dataclass(frozen=True, slots=True)
class NodeProgress:
    """``state`` is running, finished or error; ``display_node`` is what the user's graph has."""

    node: str
    value: float
    max: float
    state: str
    display_node: str | None = None
    parent_node: str | None = None
    real_node: str | None = None


@dataclass(frozen=True, slots=True)
class ProgressState:
    """Every node of the prompt that has started so far, by id."""

    prompt_id: str
    nodes: Mapping[str, NodeProgress]


@dataclass(frozen=True, slots=True)
class Executed:
    """A node has ended with something to show: see ``files_of`` and ``texts_of``."""

    prompt_id: str
    node: str
    output: Mapping[str, Any] | None
    display_node: str | None = None


@dataclass(frozen=True, slots=True)
class ExecutionSuccess:
    prompt_id: str
    timestamp_ms: int = 0


@dataclass(frozen=True, slots=True)
class ExecutionError:
    """A node raised; ``exception_type`` is the Python class, with its module unless built in."""

    prompt_id: str
    node_id: str | None
    node_type: str | None
    exception_type: str
    exception_message: str
    traceback: tuple[str, ...] = ()
    executed: tuple[str, ...] = ()
    current_inputs: Mapping[str, Any] = field(default_factory=dict)
    current_outputs: tuple[str, ...] = ()
    timestamp_ms: int = 0


@dataclass(frozen=True, slots=True)
class ExecutionInterrupted:
    prompt_id: str
    node_id: str | None
    node_type: str | None
    executed: tuple[str, ...] = ()
    timestamp_ms: int = 0


@dataclass(frozen=True, slots=True)
class Preview:
    """A picture sent over the socket: a preview, or what SaveImageWebsocket delivers.

    ``prompt_id`` and ``node`` are None in frames without metadata.
    """

    image: bytes
    media_type: str
    prompt_id: str | None = None
    node: str | None = None
    display_node: str | None = None


@dataclass(frozen=True, slots=True)
class TextFrame:
    node: str
    text: str


@dataclass(frozen=True, slots=True)
class Unknown:
    """A message of another kind; ``type`` is ``binary:N`` for a binary frame of event N."""

    type: str
    data: Any


Message = (
    Status
    | FeatureFlags
    | ExecutionStart
    | ExecutionCached
    | Executing
    | Progress
    | ProgressState
    | Executed
    | ExecutionSuccess
    | ExecutionError
    | ExecutionInterrupted
    | Preview
    | TextFrame
    | Unknown
)


@dataclass(frozen=True, slots=True)
class FileRef:
    """A file of an instance; ``type`` is the folder: output (results), temp (previews), input."""

    filename: str
    subfolder: str = ""
    type: str = "output"


def files_of(output: Mapping[str, Any]) -> tuple[tuple[str, FileRef], ...]:
    """Return the files in a node's output with the key that they stand under, in order.

    The key tells the kind: images (videos too), gifs, video, videos, audio, 3d, latents, and
    ``result``, under which viewers of 3D files name theirs.
    """
    return tuple(
        (kind, ref)
        for kind, entries in output.items()
        if isinstance(entries, list | tuple)
        for entry in entries
        if (ref := _file_of(kind, entry)) is not None
    )


def _file_of(kind: str, entry: Any) -> FileRef | None:
    if isinstance(entry, Mapping) and isinstance(entry.get("filename"), str):
        return FileRef(
            entry["filename"], entry.get("subfolder") or "", entry.get("type") or "output"
        )
    if kind == "result" and isinstance(entry, str) and entry.lower().endswith(_SHOWN_3D):
        subfolder, _, filename = entry.replace("\\", "/").rpartition("/")
        return FileRef(filename, subfolder, "output")
    return None


def texts_of(output: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the texts in a node's output, in order."""
    texts = output.get("text", ())
    if isinstance(texts, str):
        return (texts,)
    if not isinstance(texts, list | tuple):
        return ()
    return tuple(text for text in texts if isinstance(text, str))
