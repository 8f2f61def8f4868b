"""What the socket says of a job, in ComfyUI's words: one event becomes some messages."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from atelier.api.workflow_service.errors import run_error_json
from atelier.api.workflow_service.render import (
    STATUS_WORDS,
    execution_error,
    images_json,
    outputs_json,
    told_output,
)
from atelier.events import Event
from atelier.service import OutputView

Message = dict[str, Any]

STATES: Mapping[str, str] = {
    "queued": "queued",
    "position": "queued",
    "started": "running",
    "retrying": "queued",
    "finished": "success",
    "failed": "error",
    "cancelled": "interrupted",
}


@dataclass(frozen=True, slots=True)
class Made:
    """What a job that succeeded has made and shown; ``texts``: what is written in some, by id."""

    results: Sequence[OutputView] = ()
    previews: Sequence[OutputView] = ()
    texts: Mapping[str, str] = field(default_factory=dict)


@dataclass(slots=True)
class _Told:
    node: str | None = None
    executed: set[str] = field(default_factory=set)


class Messages:
    """What one socket is told of each of its jobs, nothing twice.

    Where the job runs in another process, only progress comes from there: what nodes do is
    then told as far as that shows it, and what they made at the end.
    """

    def __init__(self, base: str) -> None:
        self._base = base
        self._told: dict[str, _Told] = {}

    def of(self, event: Event, *, remaining: int, made: Made) -> Iterator[Message]:
        """The messages for ``event``, in order; ``remaining`` is how many jobs wait or run."""
        job, data = event.job, event.data
        match event.type:
            case "snapshot":
                yield from self._present(event, remaining, made)
            case "queued" | "position" | "started":
                yield _status(job, STATES[event.type], remaining, data.get("queue"))
            case "progress":
                yield from self._executing(job, data["node"])
                yield _progress(job, data)
            case "executing":
                yield from self._executing(job, data["node"])
            case "executed":
                yield self._executed(job, data["node"], told_output(job, data["output"]))
            case "retrying":
                self._told.pop(job, None)
                error = run_error_json(data["error"]) if data["error"] else None
                yield _message("system", job, event="retrying", error=error)
                yield _status(job, "queued", remaining, None)
            case "finished":
                yield from self._finished(job, remaining, made)
            case "failed" | "cancelled":
                yield from self._failed(event, data.get("error"), remaining)

    def _present(self, event: Event, remaining: int, made: Made) -> Iterator[Message]:
        job, data = event.job, event.data
        status = data["status"]
        if status == "succeeded":
            yield from self._finished(job, remaining, made)
        elif status in ("failed", "cancelled"):
            yield from self._failed(event, data["error"] if status == "failed" else None, remaining)
        else:
            yield _status(job, STATUS_WORDS[status], remaining, data["queue"])
            if status == "running":
                yield from self._executing(job, data["progress"]["node"])
                yield _progress(job, data["progress"])

    def _executing(self, job: str, node: str | None) -> Iterator[Message]:
        told = self._told.setdefault(job, _Told())
        if node is not None and node != told.node:
            told.node = node
            yield _message("executing", job, node=node, display_node=node)

    def _executed(self, job: str, node: str, output: Mapping[str, Any]) -> Message:
        self._told.setdefault(job, _Told()).executed.add(node)
        return _message("executed", job, node=node, display_node=node, output=output)

    def _finished(self, job: str, remaining: int, made: Made) -> Iterator[Message]:
        outputs = outputs_json(job, (*made.results, *made.previews), made.texts)
        told = self._told.pop(job, None) or _Told()
        for node, output in outputs.items():
            if node not in told.executed:
                yield _message("executed", job, node=node, display_node=node, output=output)
        yield _message("executing", job, node=None, display_node=None)
        yield _status(job, "success", remaining, None)
        images = images_json(job, made.results, self._base)
        yield _message("result", job, status="success", outputs=outputs, images=images)

    def _failed(
        self, event: Event, error: Mapping[str, Any] | None, remaining: int
    ) -> Iterator[Message]:
        """``error`` None: it was interrupted, which ComfyUI tells apart and this dialect not."""
        job = event.job
        self._told.pop(job, None)
        yield _message("executing", job, node=None, display_node=None)
        yield _status(job, "interrupted" if error is None else "error", remaining, None)
        told = run_error_json(None) if error is None else execution_error(error, {})
        yield _message("execution_error", job, **told)


def _message(kind: str, job: str, **data: Any) -> Message:
    return {"type": kind, "data": {"prompt_id": job, **data}}


def _status(job: str, state: str, remaining: int, queue: Mapping[str, Any] | None) -> Message:
    return _message(
        "status",
        job,
        status={"exec_info": {"queue_remaining": remaining}},
        state=state,
        queue_position=(queue or {}).get("position"),
        eta_seconds=(queue or {}).get("eta_seconds"),
    )


def _progress(job: str, data: Mapping[str, Any]) -> Message:
    """Steps of the node where it tells any, as ComfyUI does; else of the whole run, of 100."""
    percent, steps = data.get("percent", 0), data.get("steps")
    value, maximum = (data.get("step"), steps) if steps else (percent, 100)
    return _message(
        "progress", job, node=data.get("node"), value=value, max=maximum, percent=percent
    )
