"""What this dialect takes and gives, as the OpenAPI document shows it."""

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field

from atelier.api.json import checked_plain, encode
from atelier.examples import example_picture

TaskStatus = Literal["pending", "processing", "completed", "failed", "cancelled"]
InstanceState = Literal["up", "down", "draining"]

MAX_RETRIES = 20
_METADATA_BYTES = 16_384


def _short(value: dict[str, Any]) -> dict[str, Any]:
    if len(encode(checked_plain(value))) > _METADATA_BYTES:
        raise ValueError(f"may have at most {_METADATA_BYTES // 1024} KB as JSON")
    return value


def _name_or_graph(value: Any) -> Any:
    if not isinstance(value, str | dict):
        raise ValueError("must be the name of a workflow, or a graph")
    return value


class CreateTask(BaseModel):
    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "workflow": "style_change",
                    "inputs": {"image": example_picture(), "style": "clay", "strength": 0.6},
                    "priority": 5,
                    "max_retries": 2,
                    "metadata": {"order": 4711},
                }
            ]
        }
    )

    workflow: Annotated[
        str | dict[str, Any],
        BeforeValidator(_name_or_graph),
        AfterValidator(checked_plain),
        Field(description="Name of a workflow, or a whole graph in ComfyUI's API format."),
    ]
    inputs: Annotated[
        dict[str, Any],
        AfterValidator(checked_plain),
        Field(
            default_factory=dict,
            description="The workflow's inputs (of a graph: `NODE.INPUT`); pictures as http(s) "
            "or data: URL.",
        ),
    ]
    priority: Annotated[int, Field(ge=-1000, le=1000, description="Higher goes first.")] = 0
    webhook_url: Annotated[
        str | None,
        Field(max_length=2048, description="Told, signed, when the task has ended."),
        AfterValidator(checked_plain),
    ] = None
    max_retries: Annotated[
        int | None,
        Field(ge=0, le=MAX_RETRIES, description="Further attempts, where one can help."),
    ] = None
    metadata: Annotated[
        dict[str, Any],
        AfterValidator(_short),
        Field(default_factory=dict, description="Yours; returned as it is. At most 16 KB."),
    ]
    user_id: Annotated[
        str, Field(min_length=1, max_length=200, pattern=r"\S", description="Whose task it is.")
    ] = "anonymous"


class InterruptRequest(BaseModel):
    """Which generation to stop; nothing said means every one that runs for us."""

    # A misspelt name would otherwise stop everything.
    model_config = ConfigDict(extra="forbid", json_schema_extra={"examples": [{}]})

    task_id: Annotated[str | None, Field(max_length=100), AfterValidator(checked_plain)] = None
    prompt_id: Annotated[
        str | None,
        Field(max_length=100, description="ComfyUI's own id."),
        AfterValidator(checked_plain),
    ] = None
    instance: Annotated[
        str | None,
        Field(max_length=500, description="Its id or URL."),
        AfterValidator(checked_plain),
    ] = None


class FieldModel(BaseModel):
    field: str = Field(examples=["priority"])
    message: str = Field(examples=["must be at most 1000; it is 9999"])
    allowed: Any = None


class ErrorBodyModel(BaseModel):
    model_config = ConfigDict(extra="allow")

    code: str = Field(examples=["INVALID_REQUEST"])
    message: str
    hint: str | None
    retryable: bool
    fields: list[FieldModel] | None = Field(None, description="Which fields were wrong.")


class ErrorModel(BaseModel):
    """`detail` is the same as `error.message`."""

    error: ErrorBodyModel
    detail: str


class TaskErrorModel(BaseModel):
    model_config = ConfigDict(extra="allow")

    code: str
    message: str
    hint: str | None = None
    node: str | None = None
    retryable: bool = False


class ResultFileModel(BaseModel):
    url: str
    thumbnail_url: str | None
    filename: str | None
    kind: str = Field(description="image, animation, video, audio, text, 3d or file.")
    media_type: str
    width: int | None
    height: int | None
    size_bytes: int
    node: str | None
    text: str | None = Field(description="What a short text says.")


class ResultModel(BaseModel):
    image_urls: list[str]
    images: list[ResultFileModel]
    files: list[ResultFileModel] = Field(description="What else was made: video, text, ...")
    metadata: dict[str, Any] = Field(
        description="workflow, workflow_version, variant, seed, instance, cached."
    )


class WebhookModel(BaseModel):
    url: str
    status: Literal["waiting", "pending", "delivered", "dead"]
    attempts: int
    last_error: str | None


class TaskModel(BaseModel):
    task_id: str
    status: TaskStatus
    workflow: str
    user_id: str
    priority: int
    progress: int = Field(ge=0, le=100)
    progress_details: dict[str, Any] = Field(description="step, steps, node.")
    result: ResultModel | None = Field(description="When completed.")
    error: TaskErrorModel | None = Field(
        description="When failed; while pending again, what the last attempt failed with."
    )
    retries: int = Field(description="Attempts beyond the first, so far.")
    max_retries: int
    message: str | None = Field(description="Why it waits, for a person.")
    queue_position: int | None
    eta_seconds: float | None
    created_at: str
    started_at: str | None
    completed_at: str | None
    updated_at: str
    timings: dict[str, Any] = Field(
        description="queued_ms, prepare_ms, execute_ms, collect_ms, total_ms."
    )
    metadata: dict[str, Any]
    webhook: WebhookModel | None


class AcceptedModel(BaseModel):
    task_id: str
    status: TaskStatus
    workflow: str
    priority: int
    max_retries: int
    queue_position: int | None
    eta_seconds: float | None
    message: str | None
    created_at: str


class TaskPageModel(BaseModel):
    tasks: list[TaskModel]
    next_cursor: str | None


class PromptModel(BaseModel):
    prompt_id: str
    task_id: str | None = Field(description="null: somebody else submitted it.")


class InstanceQueueModel(BaseModel):
    id: str
    url: str
    state: InstanceState
    running: int | None
    pending: int | None
    running_prompts: list[PromptModel]
    pending_prompts: list[PromptModel]
    error: str | None = Field(description="Why it could not be asked; then the numbers are null.")


class ServiceQueueModel(BaseModel):
    pending: int
    processing: int
    pending_tasks: list[str] = Field(description="The first 100, next one first.")
    processing_tasks: list[str]


class QueueStatusModel(BaseModel):
    queue: ServiceQueueModel
    instances: list[InstanceQueueModel]
    running: int = Field(description="At all instances, foreign prompts included.")
    pending: int


class MemoryModel(BaseModel):
    total: int | None = Field(description="Bytes.")
    free: int | None


class InstanceSystemModel(BaseModel):
    id: str
    url: str
    state: InstanceState
    version: str | None
    ram: MemoryModel
    vram: MemoryModel
    devices: list[dict[str, Any]]
    system: dict[str, Any]
    error: str | None


class SystemStatsModel(BaseModel):
    instances: list[InstanceSystemModel]


class InterruptedModel(BaseModel):
    interrupted: list[str] = Field(description="Ids of the tasks that were told to stop.")
    count: int
    message: str


class HealthModel(BaseModel):
    status: Literal["ok", "degraded", "unavailable"]
    message: str


class StatusModel(HealthModel):
    environment: str
    version: str
    database: str
    redis: str
    storage: str
    queue_length: int
    tasks: dict[str, int] = Field(description="How many there are, by status.")
    success_rate: float | None
    failure_rate: float | None
    average_wait_seconds: float | None
    p95_wait_seconds: float | None
    average_run_seconds: float | None
    p95_run_seconds: float | None
    memory_in_use_bytes: int | None
    workers: int = Field(description="Tasks that this process runs now.")
    instances: list[dict[str, Any]]
