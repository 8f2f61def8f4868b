"""What ComfyUI answers over HTTP, as values."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from atelier.comfy.protocol import (
    ExecutionError,
    ExecutionInterrupted,
    Message,
    ProtocolError,
    decode_text,
    dump_json,
)


@dataclass(frozen=True, slots=True)
class Submitted:
    """A prompt that was taken; ``node_errors`` name outputs that will not be made."""

    prompt_id: str
    number: float
    node_errors: Mapping[str, Any]

    @classmethod
    def parse(cls, body: Any) -> "Submitted":
        try:
            return cls(body["prompt_id"], body.get("number", 0), body.get("node_errors") or {})
        except (KeyError, TypeError, AttributeError) as error:
            raise ProtocolError("ComfyUI took a prompt without saying its id.") from error


@dataclass(frozen=True, slots=True)
class QueueState:
    """Prompt ids; ``pending`` in the order in which they will run.

    ``graphs`` are what those that run were submitted with, where ComfyUI tells.
    """

    running: tuple[str, ...]
    pending: tuple[str, ...]
    graphs: Mapping[str, Mapping[str, Any]] = field(default_factory=dict, compare=False)

    @classmethod
    def parse(cls, body: Any) -> "QueueState":
        try:
            # An entry starts with its number, its id; the waiting ones come as a heap.
            running = tuple(entry[1] for entry in body["queue_running"])
            waiting = sorted(body["queue_pending"], key=lambda entry: (entry[0], entry[1]))
            graphs = {
                entry[1]: entry[2]
                for entry in body["queue_running"]
                if len(entry) > 2 and isinstance(entry[2], Mapping)
            }
            return cls(running, tuple(entry[1] for entry in waiting), graphs)
        except (KeyError, TypeError, IndexError) as error:
            raise ProtocolError("ComfyUI described its queue in an unknown way.") from error

    def place(self, prompt_id: str) -> Literal["running", "pending"] | None:
        if prompt_id in self.running:
            return "running"
        return "pending" if prompt_id in self.pending else None


@dataclass(frozen=True, slots=True)
class History:
    """How a prompt ended; ``outputs`` by node id."""

    prompt_id: str
    status: Literal["success", "error", "interrupted"]
    outputs: Mapping[str, Mapping[str, Any]]
    error: ExecutionError | None
    interrupted: ExecutionInterrupted | None
    raw: Mapping[str, Any]

    @property
    def graph(self) -> Mapping[str, Any]:
        """What was run, in the API format; empty if ComfyUI doesn't say."""
        prompt = self.raw.get("prompt")
        graph = prompt[2] if isinstance(prompt, list) and len(prompt) > 2 else None
        return graph if isinstance(graph, Mapping) else {}

    @classmethod
    def parse(cls, prompt_id: str, body: Any) -> "History | None":
        """Return what ``/history/{id}`` says, or None if the prompt hasn't ended there."""
        if not isinstance(body, Mapping) or prompt_id not in body:
            return None
        entry = body[prompt_id]
        try:
            status = entry.get("status") or {}
            outputs = {key: value for key, value in entry["outputs"].items() if value}
            messages = [_message(kind, data) for kind, data in status.get("messages") or ()]
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise ProtocolError("ComfyUI described a prompt's end in an unknown way.") from error
        failed = next((m for m in messages if isinstance(m, ExecutionError)), None)
        interrupted = next((m for m in messages if isinstance(m, ExecutionInterrupted)), None)
        # The messages decide: status_str may be left from the prompt before.
        if interrupted:
            return cls(prompt_id, "interrupted", outputs, None, interrupted, entry)
        if failed or (not messages and status.get("status_str") == "error"):
            failed = failed or ExecutionError(prompt_id, None, None, "", "ComfyUI gave no reason.")
            return cls(prompt_id, "error", outputs, failed, None, entry)
        return cls(prompt_id, "success", outputs, None, None, entry)


def _message(kind: str, data: Any) -> Message:
    return decode_text(dump_json({"type": kind, "data": data}))
