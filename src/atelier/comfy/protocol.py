"""ComfyUI's WebSocket messages as values, decoded and encoded.

Text frames are JSON ``{"type", "data"}``; binary frames start with a big-endian u32 event.
A frame of a type that is not known here becomes ``Unknown``: custom nodes send their own.
"""

import json
import struct
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final

import orjson

from atelier.comfy.messages import (
    Executed,
    Executing,
    ExecutionCached,
    ExecutionError,
    ExecutionInterrupted,
    ExecutionStart,
    ExecutionSuccess,
    FeatureFlags,
    FileRef,
    Message,
    NodeProgress,
    Preview,
    Progress,
    ProgressState,
    Status,
    TextFrame,
    Unknown,
    files_of,
    texts_of,
)
from atelier.errors import InstanceError

__all__ = [
    "Executed",
    "Executing",
    "ExecutionCached",
    "ExecutionError",
    "ExecutionInterrupted",
    "ExecutionStart",
    "ExecutionSuccess",
    "FeatureFlags",
    "FileRef",
    "Message",
    "NodeProgress",
    "Preview",
    "Progress",
    "ProgressState",
    "ProtocolError",
    "Status",
    "TextFrame",
    "Unknown",
    "decode_binary",
    "decode_text",
    "dump_json",
    "encode_preview",
    "encode_text",
    "files_of",
    "parse_json",
    "texts_of",
]

PREVIEW: Final = 1
TEXT: Final = 3
PREVIEW_WITH_METADATA: Final = 4

_FORMATS: Final = {1: "image/jpeg", 2: "image/png"}
_FORMAT_NUMBERS: Final = {media_type: number for number, media_type in _FORMATS.items()}
_U32: Final = struct.Struct(">I")


class ProtocolError(InstanceError):
    """An instance sent something that is not ComfyUI's protocol."""

    code = "COMFYUI_PROTOCOL_ERROR"
    default_hint = "Check that the address is a ComfyUI, and that no proxy rewrites its answers."


def parse_json(data: bytes | str) -> Any:
    """Return what ``data`` says. Raises ProtocolError."""
    try:
        return orjson.loads(data)
    except ValueError:
        try:
            # Python's own writer, which ComfyUI uses, emits NaN and Infinity.
            return json.loads(data)
        except ValueError as error:
            raise ProtocolError(f"ComfyUI sent what is no JSON: {error}.") from error


def dump_json(value: Any) -> bytes:
    """Return ``value`` as JSON; whole numbers may have any size."""
    try:
        return orjson.dumps(value)
    except TypeError:
        return json.dumps(value).encode()


def decode_text(text: str | bytes) -> Message:
    """Return the message of a text frame. Raises ProtocolError if it is malformed."""
    frame = parse_json(text)
    if not isinstance(frame, dict) or not isinstance(frame.get("type"), str):
        raise ProtocolError("ComfyUI sent a message without a type.")
    kind, data = frame["type"], frame.get("data")
    decode = _DECODERS.get(kind)
    if decode is None:
        return Unknown(kind, data)
    try:
        return decode(data)
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise ProtocolError(f"ComfyUI sent a malformed {kind!r} message.", data=data) from error


def decode_binary(frame: bytes) -> Message:
    """Return the message of a binary frame: u32 event (big-endian), then as the event says.

    1: u32 format (1 JPEG, 2 PNG), image. 3: u32 length, node id, text.
    4: u32 length, JSON metadata, image. Raises ProtocolError if it is cut short.
    """
    event = _u32(frame, 0)
    if event == PREVIEW:
        media_type = _FORMATS.get(_u32(frame, 4), "application/octet-stream")
        return Preview(frame[8:], media_type)
    if event == TEXT:
        node, text = _headed(frame)
        return TextFrame(node.decode(errors="replace"), text.decode(errors="replace"))
    if event == PREVIEW_WITH_METADATA:
        head, image = _headed(frame)
        metadata = parse_json(head)
        if not isinstance(metadata, dict):
            raise ProtocolError("ComfyUI sent a preview whose metadata is no object.")
        return Preview(
            image,
            metadata.get("image_type", "image/jpeg"),
            metadata.get("prompt_id"),
            metadata.get("node_id"),
            metadata.get("display_node_id"),
        )
    return Unknown(f"binary:{event}", frame[4:])


def encode_text(message: Message) -> str:
    """Return the text frame of ``message``. Raises TypeError for what travels as binary."""
    kind, data = _encode(message)
    return dump_json({"type": kind, "data": data}).decode()


def encode_preview(preview: Preview, *, with_metadata: bool) -> bytes:
    """Return the binary frame: with metadata (event 4) names its node, without (1) doesn't."""
    if not with_metadata:
        number = _FORMAT_NUMBERS.get(preview.media_type, 1)
        return _U32.pack(PREVIEW) + _U32.pack(number) + preview.image
    display_node = preview.display_node or preview.node
    metadata = dump_json(
        {
            "node_id": preview.node,
            "prompt_id": preview.prompt_id,
            "display_node_id": display_node,
            "parent_node_id": None,
            "real_node_id": display_node,
            "image_type": preview.media_type,
        }
    )
    return _U32.pack(PREVIEW_WITH_METADATA) + _U32.pack(len(metadata)) + metadata + preview.image


def _u32(frame: bytes, offset: int) -> int:
    try:
        return int(_U32.unpack_from(frame, offset)[0])
    except struct.error as error:
        raise ProtocolError("ComfyUI sent a binary frame that is cut short.") from error


def _headed(frame: bytes) -> tuple[bytes, bytes]:
    end = 8 + _u32(frame, 4)
    if end > len(frame):
        raise ProtocolError("ComfyUI sent a binary frame that is cut short.")
    return frame[8:end], frame[end:]


def _names(values: Iterable[object] | None) -> tuple[str, ...]:
    return tuple(str(value) for value in values or ())


def _decode_status(data: Any) -> Status:
    exec_info = (data.get("status") or {}).get("exec_info") or {}
    return Status(exec_info.get("queue_remaining"), data.get("sid"))


def _decode_progress_state(data: Any) -> ProgressState:
    nodes = {
        node_id: NodeProgress(
            node_id,
            node["value"],
            node["max"],
            node["state"],
            node.get("display_node_id"),
            node.get("parent_node_id"),
            node.get("real_node_id"),
        )
        for node_id, node in data["nodes"].items()
    }
    return ProgressState(data["prompt_id"], nodes)


def _decode_error(data: Any) -> ExecutionError:
    return ExecutionError(
        prompt_id=data["prompt_id"],
        node_id=data.get("node_id"),
        node_type=data.get("node_type"),
        exception_type=data.get("exception_type") or "",
        exception_message=data.get("exception_message") or "",
        traceback=_names(data.get("traceback")),
        executed=_names(data.get("executed")),
        current_inputs=data.get("current_inputs") or {},
        current_outputs=_names(data.get("current_outputs")),
        timestamp_ms=data.get("timestamp", 0),
    )


def _decode_interrupted(data: Any) -> ExecutionInterrupted:
    return ExecutionInterrupted(
        data["prompt_id"],
        data.get("node_id"),
        data.get("node_type"),
        _names(data.get("executed")),
        data.get("timestamp", 0),
    )


_DECODERS: Final[Mapping[str, Callable[[Any], Message]]] = {
    "status": _decode_status,
    "feature_flags": lambda d: FeatureFlags(dict(d)),
    "execution_start": lambda d: ExecutionStart(d["prompt_id"], d.get("timestamp", 0)),
    "execution_cached": lambda d: ExecutionCached(
        d["prompt_id"], _names(d["nodes"]), d.get("timestamp", 0)
    ),
    "executing": lambda d: Executing(d.get("prompt_id"), d["node"], d.get("display_node")),
    "progress": lambda d: Progress(d.get("prompt_id"), d.get("node"), d["value"], d["max"]),
    "progress_state": _decode_progress_state,
    "executed": lambda d: Executed(
        d["prompt_id"], d["node"], d.get("output"), d.get("display_node")
    ),
    "execution_success": lambda d: ExecutionSuccess(d["prompt_id"], d.get("timestamp", 0)),
    "execution_error": _decode_error,
    "execution_interrupted": _decode_interrupted,
}


def _encode(message: Message) -> tuple[str, Any]:
    match message:
        case Status(queue_remaining, sid):
            data: dict[str, Any] = {"status": {"exec_info": {"queue_remaining": queue_remaining}}}
            return "status", data if sid is None else data | {"sid": sid}
        case FeatureFlags(flags):
            return "feature_flags", dict(flags)
        case ExecutionStart(prompt_id, timestamp_ms):
            return "execution_start", {"prompt_id": prompt_id, "timestamp": timestamp_ms}
        case ExecutionCached(prompt_id, nodes, timestamp_ms):
            return "execution_cached", {
                "nodes": nodes,
                "prompt_id": prompt_id,
                "timestamp": timestamp_ms,
            }
        case Executing(prompt_id, node, display_node):
            data = {"node": node}
            if display_node is not None:
                data["display_node"] = display_node
            return "executing", data if prompt_id is None else data | {"prompt_id": prompt_id}
        case Progress(prompt_id, node, value, maximum):
            data = {"value": value, "max": maximum, "prompt_id": prompt_id, "node": node}
            return "progress", data
        case ProgressState(prompt_id, states):
            return "progress_state", {
                "prompt_id": prompt_id,
                "nodes": {key: _encode_node(prompt_id, node) for key, node in states.items()},
            }
        case Executed(prompt_id, node, output, display_node):
            return "executed", {
                "node": node,
                "display_node": display_node or node,
                "output": output,
                "prompt_id": prompt_id,
            }
        case ExecutionSuccess(prompt_id, timestamp_ms):
            return "execution_success", {"prompt_id": prompt_id, "timestamp": timestamp_ms}
        case ExecutionError():
            return "execution_error", {
                "prompt_id": message.prompt_id,
                "node_id": message.node_id,
                "node_type": message.node_type,
                "executed": message.executed,
                "exception_message": message.exception_message,
                "exception_type": message.exception_type,
                "traceback": message.traceback,
                "current_inputs": message.current_inputs,
                "current_outputs": message.current_outputs,
                "timestamp": message.timestamp_ms,
            }
        case ExecutionInterrupted(prompt_id, node_id, node_type, executed, timestamp_ms):
            return "execution_interrupted", {
                "prompt_id": prompt_id,
                "node_id": node_id,
                "node_type": node_type,
                "executed": executed,
                "timestamp": timestamp_ms,
            }
        case Unknown(kind, data) if not kind.startswith("binary:"):
            return kind, data
        case _:
            raise TypeError(f"{type(message).__name__} does not travel as text")


def _encode_node(prompt_id: str, node: NodeProgress) -> dict[str, Any]:
    return {
        "value": node.value,
        "max": node.max,
        "state": node.state,
        "node_id": node.node,
        "prompt_id": prompt_id,
        "display_node_id": node.display_node or node.node,
        "parent_node_id": node.parent_node,
        "real_node_id": node.real_node or node.node,
    }
