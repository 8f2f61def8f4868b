"""One thing that happened to a job, as a value; what each type carries in ``data``.

| type      | data                                                                         |
|-----------|------------------------------------------------------------------------------|
| snapshot  | status, progress, queue {position, eta_seconds}, message, outputs, error,    |
|           | attempts, instance: the present state, first in a stream that can't resume   |
| queued    | queue {position, eta_seconds}                                                |
| position  | queue {position, eta_seconds}                                                |
| started   | instance, attempt, variant                                                   |
| progress  | percent 0..100, step, steps, node                                            |
| preview   | media_type, image (a ``data:`` URI), node                                    |
| executing | node: it runs now at the instance                                            |
| executed  | node, output: it has ended, with this to show, files named as the instance   |
|           | names them (which may not be kept yet)                                       |
| retrying  | error, attempt (the one that failed), run_after_ms (epoch, or None: now)     |
| finished  | outputs (as in a job), seed                                                  |
| failed    | error {code, message, hint, node, retryable}, attempts                       |
| cancelled | nothing                                                                      |
"""

from base64 import b64encode
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal, get_args

EventType = Literal[
    "snapshot",
    "queued",
    "position",
    "started",
    "progress",
    "preview",
    "executing",
    "executed",
    "retrying",
    "finished",
    "failed",
    "cancelled",
]
EVENT_TYPES: tuple[EventType, ...] = get_args(EventType)
TERMINAL_TYPES: frozenset[EventType] = frozenset({"finished", "failed", "cancelled"})
# Only the newest of each of these matters to somebody who is behind.
COALESCED_TYPES: frozenset[EventType] = frozenset({"position", "progress", "preview"})
# Told only to those who ask for them: large or many, and worth nothing a moment later.
OPTIONAL_TYPES: frozenset[EventType] = frozenset({"preview", "executing", "executed"})
_TERMINAL_STATUSES = frozenset({"succeeded", "failed", "cancelled"})

Order = tuple[int, int]


@dataclass(frozen=True, slots=True)
class Event:
    """What happened to ``job``. The bus stamps ``id`` ("ms-seq-tag", rising) and ``at_ms``.

    ``tag`` is of the process that stamped it: what it has told says nothing of what others have.
    """

    type: EventType
    job: str
    user: str
    data: Mapping[str, Any] = field(default_factory=dict)
    id: str = ""
    at_ms: int = 0
    _wire: dict[str, bytes] = field(default_factory=dict, repr=False, compare=False)

    @property
    def ends(self) -> bool:
        """Whether nothing follows for this job unless somebody retries it."""
        if self.type == "snapshot":
            return self.data.get("status") in _TERMINAL_STATUSES
        return self.type in TERMINAL_TYPES

    @property
    def order(self) -> Order:
        """``id`` as numbers that compare; (0, 0) before the bus has stamped it."""
        return parse_id(self.id) or (0, 0)

    def stamped(self, event_id: str, at_ms: int) -> "Event":
        return replace(self, id=event_id, at_ms=self.at_ms or at_ms, _wire={})

    def encoded(self, form: str, encode: Callable[["Event"], bytes]) -> bytes:
        """``encode(self)``, computed once per ``form`` however many listeners ask."""
        wire = self._wire.get(form)
        if wire is None:
            wire = self._wire[form] = encode(self)
        return wire


def parse_id(text: str | None) -> Order | None:
    """``(ms, seq)`` of an event id; None when it isn't one, as a stranger may send anything."""
    milliseconds, _, rest = (text or "").partition("-")
    sequence, _, tag = rest.partition("-")
    if "-" in tag or not (_is_number(milliseconds) and _is_number(sequence)):
        return None
    return int(milliseconds), int(sequence)


def tag_of(text: str | None) -> str:
    """Which process stamped an event id; empty when it isn't one."""
    return (text or "").partition("-")[2].partition("-")[2]


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) <= 16


def _queue(position: int | None, eta_seconds: float | None) -> dict[str, Any]:
    return {"queue": {"position": position, "eta_seconds": eta_seconds}}


def snapshot(
    job: str,
    user: str,
    *,
    status: str,
    progress: Mapping[str, Any],
    position: int | None = None,
    eta_seconds: float | None = None,
    message: str | None = None,
    outputs: Sequence[Mapping[str, Any]] = (),
    error: Mapping[str, Any] | None = None,
    attempts: int = 0,
    instance: str | None = None,
) -> Event:
    """The present state of a job, for a listener that has nothing to resume from."""
    data = {
        "status": status,
        "progress": dict(progress),
        **_queue(position, eta_seconds),
        "message": message,
        "outputs": [dict(output) for output in outputs],
        "error": None if error is None else dict(error),
        "attempts": attempts,
        "instance": instance,
    }
    return Event("snapshot", job, user, data)


def queued(
    job: str, user: str, *, position: int | None = None, eta_seconds: float | None = None
) -> Event:
    return Event("queued", job, user, _queue(position, eta_seconds))


def position(
    job: str, user: str, *, position: int | None, eta_seconds: float | None = None
) -> Event:
    return Event("position", job, user, _queue(position, eta_seconds))


def started(
    job: str, user: str, *, instance: str | None, attempt: int, variant: str | None = None
) -> Event:
    return Event(
        "started", job, user, {"instance": instance, "attempt": attempt, "variant": variant}
    )


def progress(
    job: str,
    user: str,
    *,
    percent: int,
    step: int | None = None,
    steps: int | None = None,
    node: str | None = None,
) -> Event:
    return Event(
        "progress", job, user, {"percent": percent, "step": step, "steps": steps, "node": node}
    )


def preview(
    job: str, user: str, *, image: bytes, media_type: str, node: str | None = None
) -> Event:
    """A picture of the work so far. It travels inside the event, so it should be small."""
    uri = f"data:{media_type};base64,{b64encode(image).decode('ascii')}"
    return Event("preview", job, user, {"media_type": media_type, "image": uri, "node": node})


def executing(job: str, user: str, *, node: str) -> Event:
    return Event("executing", job, user, {"node": node})


def executed(job: str, user: str, *, node: str, output: Mapping[str, Any]) -> Event:
    """``output`` is {kind: entries} as ComfyUI tells it, e.g. {"images": [{"filename": ...}]}."""
    return Event("executed", job, user, {"node": node, "output": dict(output)})


def retrying(
    job: str,
    user: str,
    *,
    error: Mapping[str, Any] | None,
    attempt: int,
    run_after_ms: int | None = None,
) -> Event:
    data = {
        "error": None if error is None else dict(error),
        "attempt": attempt,
        "run_after_ms": run_after_ms,
    }
    return Event("retrying", job, user, data)


def finished(
    job: str, user: str, *, outputs: Sequence[Mapping[str, Any]], seed: int | None = None
) -> Event:
    """``outputs`` as a job shows them, addresses included: a listener needs no second call."""
    data = {"outputs": [dict(output) for output in outputs], "seed": seed}
    return Event("finished", job, user, data)


def failed(job: str, user: str, *, error: Mapping[str, Any], attempts: int) -> Event:
    return Event("failed", job, user, {"error": dict(error), "attempts": attempts})


def cancelled(job: str, user: str) -> Event:
    return Event("cancelled", job, user)
