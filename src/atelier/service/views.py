"""What the service layer hands to the dialects: plain values, already joined and complete."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from atelier.jobs.job import Job
from atelier.media.kinds import MediaKind, kind_of
from atelier.storage.media_types import extension_of
from atelier.workflows.library import Origin

InstanceState = Literal["up", "down", "draining"]


def content_path(asset: str) -> str:
    """Where the native API serves an asset; it redirects when the store has an address itself."""
    return f"/v1/assets/{asset}/content"


def thumbnail_path(asset: str) -> str:
    return f"/v1/assets/{asset}/thumbnail"


def output_name(asset: str, media_type: str) -> str:
    """The name of an output as a file: ``Assets.open_output`` opens it."""
    return f"{asset}.{extension_of(media_type)}"


@dataclass(frozen=True, slots=True)
class OutputView:
    """One file that a job made. ``url`` and ``thumbnail_url`` begin with ``/`` or a scheme."""

    id: str
    url: str
    thumbnail_url: str | None
    media_type: str
    width: int | None
    height: int | None
    size_bytes: int
    node: str | None
    thumbhash: str | None = None
    filename: str | None = None
    kind: MediaKind = "image"
    duration_seconds: float | None = None
    fps: float | None = None
    frames: int | None = None
    text: str | None = None  # what a short text says
    # How the instance named it: key (images, gifs, text, ...), subfolder, type (output, temp).
    source: Mapping[str, Any] | None = None
    available: bool = True  # False: the file was kept for its time and is gone

    @classmethod
    def of(cls, record: Mapping[str, Any]) -> "OutputView":
        """From what a job remembers of an output."""
        return cls(
            id=record["id"],
            url=content_path(record["id"]),
            thumbnail_url=thumbnail_path(record["id"]) if record.get("thumbnail_key") else None,
            media_type=record["media_type"],
            width=record.get("width"),
            height=record.get("height"),
            size_bytes=record["size_bytes"],
            node=record.get("node"),
            thumbhash=record.get("thumbhash"),
            filename=record.get("filename"),
            # Jobs of an older version didn't note it.
            kind=record.get("kind") or kind_of(record["media_type"]),
            duration_seconds=record.get("duration_seconds"),
            fps=record.get("fps"),
            frames=record.get("frames"),
            text=record.get("text"),
            source=record.get("source"),
            available=record.get("available", True),
        )

    @property
    def name(self) -> str:
        return output_name(self.id, self.media_type)

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True, slots=True)
class WebhookView:
    """How far the telling of a job's end is: waiting until it ends, then pending, then one of
    delivered and dead (given up). ``last_error`` is a sentence.
    """

    url: str
    status: Literal["waiting", "pending", "delivered", "dead"]
    attempts: int = 0
    last_error: str | None = None


@dataclass(frozen=True, slots=True)
class JobView:
    """A job with what is known about it only now: place in the queue, addresses of outputs."""

    job: Job
    outputs: tuple[OutputView, ...] = ()
    previews: tuple[OutputView, ...] = ()  # shown on the way to the outputs; no results
    queue_position: int | None = None  # 1 is next; None unless queued
    eta_seconds: float | None = None  # until it is finished; None when nothing is known yet
    message: str | None = None  # why it waits, for a person
    webhook: WebhookView | None = None  # None where the submission named none


@dataclass(frozen=True, slots=True)
class JobPage:
    jobs: tuple[JobView, ...]
    next_cursor: str | None


@dataclass(frozen=True, slots=True)
class LineView:
    """What runs, oldest first, and what waits, next one first; the numbers count those not shown
    too."""

    running: tuple[JobView, ...]
    waiting: tuple[JobView, ...]
    running_count: int
    waiting_count: int


@dataclass(frozen=True, slots=True)
class JobHistory:
    """Jobs from some place on, of ``total`` that there are."""

    jobs: tuple[JobView, ...]
    total: int


@dataclass(frozen=True, slots=True)
class AssetView:
    id: str
    url: str
    thumbnail_url: str | None
    kind: MediaKind
    media_type: str
    width: int | None
    height: int | None
    duration_seconds: float | None
    fps: float | None
    frames: int | None
    size_bytes: int
    sha256: str
    thumbhash: str | None
    filename: str | None
    created_at_ms: int


@dataclass(frozen=True, slots=True)
class VariantView:
    """One way in which a workflow can run, and where.

    ``inputs`` are those that it uses, ``defaults`` what its graph has for those without a default.
    ``needs`` are its model files and custom nodes, ``lacking`` those of them that are missing at
    the instance that lacks least.
    """

    name: str
    kind: str
    title: str
    available: bool | None  # None: no instance is reachable, so nobody knows
    instances: tuple[str, ...]
    missing: tuple[str, ...]  # in words
    lacking: Mapping[str, Any] | None
    inputs: tuple[str, ...]
    requires: tuple[str, ...]
    defaults: Mapping[str, Any]
    needs: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class WorkflowView:
    """A workflow as data: its manifest (JSON-able), the JSON Schema of its inputs, its version.

    Texts beside the manifest are in one language. ``example`` are inputs with which it runs.
    """

    name: str
    version: str
    title: str
    help: str
    category: str
    icon: str | None
    manifest: Mapping[str, Any]
    input_schema: Mapping[str, Any]
    runnable: bool | None  # None: no instance is reachable, so nobody knows
    variant: str | None  # the one that would be used now
    variants: tuple[VariantView, ...]
    example: Mapping[str, Any]
    missing: tuple[str, ...] = ()  # in words, when it can't run
    origin: Origin = "shipped"


@dataclass(frozen=True, slots=True)
class InstanceCheck:
    """How a workflow would fare at one instance.

    ``variant`` is the one that it would run, None where it can't run any; ``missing`` is then
    what the first lacks, in words. ``problems`` are those of the graph, as ``check`` tells them.
    """

    instance: str
    variant: str | None
    missing: tuple[str, ...]
    problems: tuple[Mapping[str, Any], ...]


@dataclass(frozen=True, slots=True)
class ModelView:
    """A file in ``folder`` below ``models/`` of ``instances``."""

    name: str
    folder: str
    instances: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class InstanceView:
    """One ComfyUI instance as this process sees it."""

    id: str
    url: str
    state: InstanceState
    embedded: bool
    version: str | None = None
    queue_remaining: int | None = None  # its own queue, foreign prompts included
    running_jobs: tuple[str, ...] = ()
    devices: tuple[Mapping[str, Any], ...] = ()
    models_count: int = 0
    nodes_count: int = 0
    last_error: str | None = None
    latency_ms: float | None = None  # of the last HTTP probe
    connections: int = 0  # WebSocket connections made by its worker since it took it
    messages: int = 0  # that came over them
    jobs_served: int = 0  # by the instance, for its worker
    origin: str = "config"
    host: str | None = None  # only workers there reach its address
    wanted: str = "active"
    weight: float = 1.0
    tags: tuple[str, ...] = ()
    worker: str | None = None  # which serves it
    circuit: str = "closed"
    claimed_jobs: int = 0  # of ours, there or on the way
    foreign_prompts: int = 0  # of other people, in its queue
    busy_until_ms: int | None = None  # None: it has nothing to do
    warm_models: tuple[str, ...] = ()
    switch_ms: Mapping[str, float] = field(default_factory=dict)  # loading, by model key
    run_ms: Mapping[str, float] = field(default_factory=dict)  # by workflow and variant
    vram_total_bytes: int | None = None
    vram_free_bytes: int | None = None
    models: Mapping[str, int] = field(default_factory=dict)  # files by folder
    capabilities: str | None = None  # names the state of its nodes and models


@dataclass(frozen=True, slots=True)
class QueuedPrompt:
    """A prompt in an instance's own queue; ``job`` is None where somebody else submitted it."""

    prompt_id: str
    job: str | None


@dataclass(frozen=True, slots=True)
class InstanceQueueView:
    """An instance's own queue, asked now; ``error`` says why it could not tell."""

    id: str
    url: str
    state: InstanceState
    running: tuple[QueuedPrompt, ...] = ()
    pending: tuple[QueuedPrompt, ...] = ()
    error: str | None = None


@dataclass(frozen=True, slots=True)
class QueuesView:
    """Our own queue and those of the instances.

    ``running``: ids of our jobs at instances; ``waiting``: of the first that are queued, next
    one first; ``queued``: how many there are.
    """

    instances: tuple[InstanceQueueView, ...]
    running: tuple[str, ...]
    waiting: tuple[str, ...]
    queued: int


@dataclass(frozen=True, slots=True)
class SystemView:
    """What an instance says of its machine, asked now: ComfyUI's own figures, sizes in bytes."""

    id: str
    url: str
    state: InstanceState
    system: Mapping[str, Any] = field(default_factory=dict)
    devices: tuple[Mapping[str, Any], ...] = ()
    error: str | None = None


@dataclass(frozen=True, slots=True)
class Health:
    """State of the whole. ``ok`` is False when no job could be accepted."""

    ok: bool
    status: Literal["ok", "degraded", "unavailable"]
    message: str
    database: str  # "ok" or a sentence
    redis: str  # "ok", "not configured" or a sentence
    storage: str
    instances: tuple[InstanceView, ...]
    waiting: int | None  # queued jobs; None when the database is away
    workers: int  # seats in this process
    workflows: str = "ok"  # or a sentence on faulty files


@dataclass(frozen=True, slots=True)
class Stats:
    """Counts and times over the live jobs and the last 1,000 that ended.

    Times are in seconds from the database clock; rates are shares of those that succeeded or
    failed, None before there is one.
    """

    by_status: Mapping[str, int]
    by_workflow: Mapping[str, int]  # of the last 1,000 that ended
    by_style: Mapping[str, int]
    success_rate: float | None
    failure_rate: float | None
    queue_length: int
    wait_mean_seconds: float | None
    wait_p95_seconds: float | None
    run_mean_seconds: float | None
    run_p95_seconds: float | None
    run_by_workflow_seconds: Mapping[str, float | None] = field(default_factory=dict)
    instances: tuple[InstanceView, ...] = field(default=())
