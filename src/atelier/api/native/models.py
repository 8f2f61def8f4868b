"""What /v1 takes and gives, as the OpenAPI document shows it."""

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from atelier.api.json import checked_plain, encode
from atelier.api.native.conversion import OutputOptions
from atelier.examples import example_picture
from atelier.media.kinds import MediaKind

JobStatus = Literal["queued", "running", "succeeded", "failed", "cancelled"]
User = Annotated[str, Field(min_length=1, max_length=200)]
Priority = Annotated[int, Field(ge=-100, le=100)]

SUBMIT_EXAMPLE: dict[str, Any] = {
    "workflow": "style_change",
    "inputs": {"image": example_picture(), "style": "clay", "strength": 0.6},
    "user": "ada",
}


_METADATA_BYTES = 16_384


def _short(value: dict[str, Any]) -> dict[str, Any]:
    if len(encode(checked_plain(value))) > _METADATA_BYTES:
        raise ValueError(f"may have at most {_METADATA_BYTES // 1024} KB as JSON")
    return value


class SubmitJob(BaseModel):
    """Work to do: a workflow by name, or a graph in ComfyUI's API or UI format, and its inputs."""

    model_config = ConfigDict(
        extra="forbid", json_schema_extra={"examples": [SUBMIT_EXAMPLE]}, title="Submit a job"
    )

    workflow: Annotated[
        str | dict[str, Any],
        AfterValidator(checked_plain),
        Field(description="Name of a workflow, or a whole graph in ComfyUI's API or UI format."),
    ]
    inputs: Annotated[
        dict[str, Any],
        AfterValidator(checked_plain),
        Field(
            default_factory=dict,
            description="The workflow's inputs; pictures as http(s) or data: URL, or asset:ID.",
        ),
    ]
    user: Annotated[User, Field(description="Whose job it is; lists are per user.")] = "anonymous"
    priority: Annotated[Priority, Field(description="Higher goes first.")] = 0
    metadata: Annotated[
        dict[str, Any],
        AfterValidator(_short),
        Field(default_factory=dict, description="Yours; returned as it is. At most 16 KB."),
    ]
    max_attempts: Annotated[
        int | None, Field(ge=1, le=10, description="Attempts in all, when retrying can help.")
    ] = None
    output: Annotated[
        OutputOptions | None, Field(description="How its pictures are to be kept.")
    ] = None
    cache: Annotated[
        bool,
        Field(description="An earlier job of the same user that ran the same may answer at once."),
    ] = False
    webhook_url: Annotated[
        str | None,
        Field(
            max_length=2048,
            description="http or https address that is told, signed, when the job has ended.",
        ),
        AfterValidator(checked_plain),
    ] = None


class ProgressModel(BaseModel):
    percent: int = Field(ge=0, le=100)
    step: int | None
    steps: int | None
    node: str | None


class QueueModel(BaseModel):
    position: int | None = Field(description="1 is next; null unless the job waits.")
    eta_seconds: float | None = Field(description="Until it is finished, where that is known.")


class OutputModel(BaseModel):
    id: str
    url: str
    thumbnail_url: str | None
    kind: MediaKind
    media_type: str
    width: int | None
    height: int | None
    duration_seconds: float | None = Field(description="Of animations, videos and sounds.")
    fps: float | None
    frames: int | None
    size_bytes: int
    node: str | None
    thumbhash: str | None
    filename: str | None
    source: dict[str, Any] | None = Field(
        description="How ComfyUI named it: `key` (images, gifs, text, ...), `subfolder`, `type`."
    )
    text: str | None = Field(description="What a text of at most 8 KB says.")
    available: bool = Field(description="False once the file is gone: it was kept for its time.")


class JobErrorModel(BaseModel):
    model_config = ConfigDict(extra="allow")

    code: str
    message: str
    hint: str | None = None
    node: str | None = None
    retryable: bool = False


class WebhookModel(BaseModel):
    url: str
    status: Literal["waiting", "pending", "delivered", "dead"] = Field(
        description="waiting until the job ends; dead: given up."
    )
    attempts: int
    last_error: str | None


class JobModel(BaseModel):
    """A job."""

    id: str
    status: JobStatus
    workflow: str
    workflow_version: str | None
    variant: str | None = Field(description="Which variant of the workflow was used.")
    user: str
    priority: int
    progress: ProgressModel
    queue: QueueModel
    message: str | None = Field(description="Why it waits, for a person.")
    inputs: dict[str, Any]
    graph: dict[str, Any] | None = Field(description="The graph, when it was submitted as one.")
    seed: int | None
    outputs: list[OutputModel]
    previews: list[OutputModel] = Field(
        description="What the workflow showed beside its results; at most 16."
    )
    output: OutputOptions | None = Field(description="How its pictures were to be kept.")
    cached: bool = Field(description="An earlier job's outputs have answered; nothing was run.")
    cached_from: str | None = Field(description="The job that made the outputs.")
    error: JobErrorModel | None
    attempts: int
    max_attempts: int
    instance: str | None
    created_at: str
    started_at: str | None
    finished_at: str | None
    updated_at: str
    timings: dict[str, Any]
    metadata: dict[str, Any]
    webhook: WebhookModel | None = Field(description="null where no `webhook_url` was given.")


class JobPageModel(BaseModel):
    jobs: list[JobModel]
    next_cursor: str | None = Field(description="Pass it as `cursor`; null on the last page.")


class AssetModel(BaseModel):
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
    created_at: str


class VariantModel(BaseModel):
    name: str
    kind: Literal["diffusion", "model", "classic", "custom"]
    title: str
    available: bool | None = Field(description="null: no instance is reachable.")
    instances: list[str] = Field(description="Those that can run it now.")
    missing: list[str] = Field(description="What they lack, in words, where none can.")
    lacking: dict[str, Any] | None = Field(
        description="The same as data: models and custom nodes, where each goes and comes from."
    )
    inputs: list[str] = Field(description="The inputs that it uses.")
    requires: list[str] = Field(description="Those that it can't do without.")
    defaults: dict[str, Any] = Field(description="What it uses for inputs that are left out.")
    needs: dict[str, Any] = Field(description="All models and custom nodes, there or not.")


class WorkflowModel(BaseModel):
    name: str
    version: str
    title: str = Field(description="In the language of `Accept-Language`.")
    help: str
    category: str
    icon: str | None = Field(description="A Lucide icon's name.")
    runnable: bool | None = Field(description="null: no instance is reachable.")
    variant: str | None = Field(description="The one that would be used now.")
    missing: list[str]
    origin: Literal["shipped", "folder", "own"]
    variants: list[VariantModel] = Field(description="The best first.")
    example: dict[str, Any] = Field(description="Inputs to try it with.")
    input_schema: dict[str, Any]
    manifest: dict[str, Any] = Field(description="With texts in all languages.")


class WorkflowListModel(BaseModel):
    workflows: list[WorkflowModel]
    problems: list[str] = Field(
        description="Faulty workflow files, a sentence each; what they were before is used."
    )


class InstanceCheckModel(BaseModel):
    instance: str
    variant: str | None = Field(description="The one that it would run; null: it can't run any.")
    missing: list[str] = Field(description="What it lacks for the first variant, in words.")
    problems: list[dict[str, Any]] = Field(
        description="What it would refuse in the graph: node, class_type, input, code, message."
    )


class WorkflowDetailModel(WorkflowModel):
    graphs: dict[str, dict[str, Any]] = Field(description="The graph of each variant.")
    checks: list[InstanceCheckModel] = Field(description="One for each instance that is up.")


class WorkflowVersionModel(BaseModel):
    version: str
    number: int = Field(description="1, 2, 3, ... of this name.")
    origin: Literal["shipped", "folder", "own"]
    created_at: str
    current: bool = Field(description="Whether the name means this one now.")


class WorkflowVersionListModel(BaseModel):
    name: str
    versions: list[WorkflowVersionModel] = Field(description="Newest first.")


REGISTER_EXAMPLE: dict[str, Any] = {
    "workflow": {
        "1": {
            "class_type": "EmptyImage",
            "inputs": {"width": 256, "height": 256, "batch_size": 1, "color": 13390080},
        },
        "2": {
            "class_type": "SaveImage",
            "inputs": {"images": ["1", 0], "filename_prefix": "plain"},
        },
    },
    "inputs": ["size", "color"],
    "title": "A plain colour",
}
PATCH_EXAMPLE: dict[str, Any] = {
    "title": "One colour",
    "inputs": {"color": {"title": "Colour", "min": 0, "max": 16777215}},
}


ADD_EXAMPLE: dict[str, Any] = {"url": "http://192.0.2.7:8188", "name": "gpu-7", "tags": ["a100"]}
Weight = Annotated[float, Field(gt=0, le=100, allow_inf_nan=False)]
Tag = Annotated[str, Field(min_length=1, max_length=64), AfterValidator(checked_plain)]
Tags = Annotated[list[Tag], Field(max_length=32)]


class AddInstance(BaseModel):
    """A ComfyUI to be served."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"examples": [ADD_EXAMPLE]})

    url: Annotated[
        str,
        Field(
            max_length=500,
            description="As workers reach it; a name and password in it are shown to nobody.",
        ),
        AfterValidator(checked_plain),
    ]
    name: Annotated[
        str | None,
        Field(max_length=100, description="Its id; left out, host and port."),
        AfterValidator(checked_plain),
    ] = None
    weight: Annotated[Weight, Field(description="How much faster than others it is.")] = 1.0
    tags: Annotated[Tags, Field(default_factory=list, description="Words of yours.")]


class ChangeInstance(BaseModel):
    """What changes; the rest stays."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"examples": [{"weight": 2.0}]})

    weight: Weight | None = None
    tags: Tags | None = None


class InstanceModel(BaseModel):
    id: str
    url: str
    state: Literal["up", "down", "draining"]
    embedded: bool
    version: str | None
    queue_remaining: int | None
    running_jobs: list[str]
    devices: list[dict[str, Any]]
    models_count: int
    nodes_count: int
    last_error: str | None
    latency_ms: float | None
    connections: int
    messages: int
    jobs_served: int
    origin: Literal["config", "api", "sidecar", "supervised", "embedded"]
    host: str | None = Field(description="Its address is one of this machine, and means it there.")
    wanted: Literal["active", "draining", "removed"]
    weight: float = Field(description="How much faster than others it is said to be.")
    tags: list[str]
    worker: str | None = Field(description="The worker that serves it.")
    circuit: Literal["closed", "open", "half_open"] = Field(
        description="open: it failed several jobs and is left alone for a while."
    )
    claimed_jobs: int = Field(description="Our jobs that are there, or on their way.")
    foreign_prompts: int = Field(description="Prompts in its queue that aren't ours.")
    busy_until: str | None = Field(description="By what such jobs took; null: nothing to do.")
    warm_models: list[str] = Field(description="What it has loaded, the last used first.")
    switch_ms: dict[str, float] = Field(description="What loading took, by model.")
    run_ms: dict[str, float] = Field(description="What jobs took, by workflow/variant.")
    vram_total_bytes: int | None
    vram_free_bytes: int | None
    models: dict[str, int] = Field(description="Model files by folder.")
    capabilities: str | None = Field(description="Another when its nodes or models are others.")


class InstanceListModel(BaseModel):
    instances: list[InstanceModel]


class WorkerModel(BaseModel):
    id: str
    role: Literal["up", "api", "worker"] = Field(description="up: API and worker in one.")
    host: str
    pid: int
    version: str
    state: Literal["live", "silent"] = Field(description="silent: unseen for 15 s or longer.")
    running_jobs: int
    started_at: str
    seen_at: str


class WorkerListModel(BaseModel):
    workers: list[WorkerModel]


class TimesModel(BaseModel):
    mean: float | None
    p95: float | None


class StatsModel(BaseModel):
    by_status: dict[str, int]
    by_workflow: dict[str, int]
    by_style: dict[str, int]
    success_rate: float | None
    failure_rate: float | None
    queue_length: int
    wait_seconds: TimesModel
    run_seconds: TimesModel
    memory_bytes: int | None
    instances: list[InstanceModel]
