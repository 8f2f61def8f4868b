"""A job: its states, what may follow what, and its values. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Literal, Protocol

from atelier.errors import InvalidRequest

Status = Literal["queued", "running", "succeeded", "failed", "cancelled"]

QUEUED: Final = "queued"  # leaves when claimed or cancelled
RUNNING: Final = "running"  # leaves with an outcome; a lease that runs out changes its worker only
SUCCEEDED: Final = "succeeded"
FAILED: Final = "failed"
CANCELLED: Final = "cancelled"

STATUSES: Final[tuple[Status, ...]] = (QUEUED, RUNNING, SUCCEEDED, FAILED, CANCELLED)
TERMINAL: Final[frozenset[Status]] = frozenset({SUCCEEDED, FAILED, CANCELLED})
TRANSITIONS: Final[Mapping[Status, frozenset[Status]]] = {
    QUEUED: frozenset({RUNNING, CANCELLED}),
    # Back to queued: a retry that waits its turn, or a worker that hands over.
    RUNNING: frozenset({SUCCEEDED, FAILED, CANCELLED, QUEUED}),
    SUCCEEDED: frozenset(),
    # Back to queued: the user asks for another try.
    FAILED: frozenset({QUEUED}),
    CANCELLED: frozenset({QUEUED}),
}

# What is measured of every job, in milliseconds.
TIMINGS: Final = ("queued_ms", "prepare_ms", "execute_ms", "collect_ms")
FIRST_BACKOFF_MS, LONGEST_BACKOFF_MS = 1_000, 60_000

# Characters that a column holds; longer values are refused rather than cut.
LENGTHS: Final[Mapping[str, int]] = {
    "id": 36,
    "user": 255,
    "workflow": 255,
    "workflow_version": 64,
    "variant": 64,
    "requirement": 64,
    "model": 255,
    "dialect": 32,
    "idempotency_key": 255,
    "fingerprint": 64,
    "batch": 64,
    "label": 64,
    "webhook_url": 2048,
}


class FieldUnusable(InvalidRequest):
    """A text is too long to be kept, or holds a NUL character. ``data["field"]`` names it."""

    code = "FIELD_UNUSABLE"


class Rng(Protocol):
    def random(self) -> float: ...


@dataclass(frozen=True, slots=True)
class Progress:
    percent: int = 0
    step: int | None = None
    steps: int | None = None
    node: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class NewJob:
    """A job to be queued.

    ``requirement`` is the hash of what an instance must have, ``model`` what it should have
    loaded, ``estimate_ms`` the expected time at an instance, ``weight`` the user's share.
    ``fingerprint`` tells equal requests from others under one idempotency key. ``batch`` and
    ``label`` (what statistics count by) default to those entries of ``metadata``. ``conversion``
    is {format, quality, max_size} of the pictures that it makes; ``cache``: outputs of an earlier
    job that ran the same may answer; ``webhook_url`` is where the end of the job is told.
    Raises FieldUnusable.
    """

    id: str
    user: str
    workflow: str
    workflow_version: str
    requirement: str
    variant: str | None = None
    priority: int = 0
    model: str | None = None
    inputs: Mapping[str, Any] = field(default_factory=dict)
    graph: Mapping[str, Any] | None = None
    seed: int | None = None
    metadata: Mapping[str, Any] = field(default_factory=dict)
    max_attempts: int = 3
    dialect: str = "native"
    idempotency_key: str | None = None
    fingerprint: str | None = None
    estimate_ms: int | None = None
    weight: float = 1.0
    batch: str | None = None
    label: str | None = None
    conversion: Mapping[str, Any] | None = None
    cache: bool = False
    webhook_url: str | None = None

    def __post_init__(self) -> None:
        for name, key in (("batch", "batch"), ("label", "style")):
            value = self.metadata.get(key)
            if getattr(self, name) is None and isinstance(value, str):
                object.__setattr__(self, name, value)
        for name, length in LENGTHS.items():
            value = getattr(self, name)
            if value is not None and (len(value) > length or "\0" in value):
                raise FieldUnusable(
                    f"{name} must be at most {length} characters, none of them NUL.", field=name
                )


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """A job as it is kept. ``lease`` grows with every claim; writes under an older one fail.

    ``error`` is {code, message, hint, node, retryable, data}: of a failure, or of the attempt
    before when the job waits for another. ``submitted_at_ms``: when ComfyUI took ``prompt_id``.
    ``cached_from`` is the job that made the outputs, where this one didn't have to run.
    """

    id: str
    user: str
    workflow: str
    workflow_version: str
    variant: str | None
    requirement: str
    model: str | None
    status: Status
    priority: int
    progress: Progress
    inputs: Mapping[str, Any]
    graph: Mapping[str, Any] | None
    seed: int | None
    outputs: tuple[Mapping[str, Any], ...]
    error: Mapping[str, Any] | None
    attempts: int
    max_attempts: int
    instance: str | None
    worker: str | None
    prompt_id: str | None
    lease: int
    cancel_requested: bool
    created_at_ms: int
    started_at_ms: int | None
    submitted_at_ms: int | None
    finished_at_ms: int | None
    updated_at_ms: int
    deleted_at_ms: int | None
    run_after_ms: int
    estimate_ms: int | None
    timings: Mapping[str, int]
    metadata: Mapping[str, Any]
    dialect: str
    batch: str | None
    label: str | None
    fingerprint: str | None = None
    previews: tuple[Mapping[str, Any], ...] = ()
    conversion: Mapping[str, Any] | None = None
    cache: bool = False
    cached_from: str | None = None
    webhook_url: str | None = None


@dataclass(frozen=True, slots=True)
class Recalled:
    """What an earlier job made, as a job that asks for the same is to have it."""

    cached_from: str
    outputs: tuple[Mapping[str, Any], ...]
    previews: tuple[Mapping[str, Any], ...] = ()
    variant: str | None = None


@dataclass(frozen=True, slots=True)
class Claim:
    """The right to run ``job`` and to write its outcome, as long as ``lease`` is its newest."""

    job: Job
    lease: int
    prompt_id: str


def backoff_ms(attempt: int, rng: Rng) -> int:
    """How long to wait after the failed ``attempt`` (1 is the first): doubling, up to a minute.

    Between half and the whole of it, so that jobs that failed together don't return together.
    """
    longest = min(FIRST_BACKOFF_MS * 2 ** min(attempt - 1, 16), LONGEST_BACKOFF_MS)
    return int(longest * (0.5 + rng.random() / 2))
