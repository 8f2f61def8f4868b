"""What this dialect takes and gives, as the OpenAPI document shows it."""

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field

from atelier.api.json import checked_plain
from atelier.api.transform.pictures import checked_image_url
from atelier.examples import example_picture

MAX_BATCH = 100

TaskStatus = Literal["pending", "processing", "completed", "failed", "cancelled"]

UserId = Annotated[
    str, Field(min_length=1, max_length=200, pattern=r"\S", description="Whose task it is.")
]
StyleType = Annotated[str, Field(max_length=100, description="GET /v1/workflows lists the styles.")]
CustomPrompt = Annotated[
    str | None,
    Field(max_length=10_000, description="Replaces the style's preset prompt."),
    AfterValidator(checked_plain),
]


def _number(value: object) -> object:
    if isinstance(value, bool):  # pydantic would take it for 0 or 1
        raise ValueError(f"must be a number; it is {str(value).lower()}")
    return value


Strength = Annotated[
    float,
    BeforeValidator(_number),
    Field(ge=0, le=1, allow_inf_nan=False, description="How much is changed; the denoise."),
]
_URL_HELP = "http, https or data: URL of the picture."


class TransformRequest(BaseModel):
    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "user_id": "ada",
                    "image_url": example_picture(),
                    "style_type": "clay",
                    "strength": 0.6,
                }
            ]
        }
    )

    user_id: UserId
    image_url: Annotated[str, AfterValidator(checked_image_url), Field(description=_URL_HELP)]
    style_type: StyleType = "clay"
    custom_prompt: CustomPrompt = None
    strength: Strength = 0.6


class BatchRequest(BaseModel):
    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {"user_id": "ada", "image_urls": [example_picture()], "style_type": "anime"}
            ]
        }
    )

    user_id: UserId
    # Each is checked by itself: a bad one is its own error, not the batch's.
    image_urls: Annotated[
        list[Any], Field(min_length=1, max_length=MAX_BATCH, description=_URL_HELP)
    ]
    style_type: StyleType = "clay"
    custom_prompt: CustomPrompt = None
    strength: Strength = 0.6


class TaskModel(BaseModel):
    task_id: str
    user_id: str
    status: TaskStatus
    progress: int = Field(ge=0, le=100)
    output_image_url: str | None = Field(description="When completed.")
    output_image_urls: list[str]
    error_message: str | None = Field(description="When failed.")
    error_code: str | None
    style_type: str | None
    message: str | None = Field(description="Why it waits, for a person.")
    created_at: str
    updated_at: str
    queue_position: int | None
    eta_seconds: float | None


class BatchEntryModel(BaseModel):
    """A task, or what was wrong with its URL."""

    image_url: str
    task_id: str | None
    status: TaskStatus
    error_message: str | None = None
    error_code: str | None = None
    created_at: str | None = None
    queue_position: int | None = None
    eta_seconds: float | None = None


class BatchModel(BaseModel):
    batch_id: str
    total: int
    accepted: int
    results: list[BatchEntryModel]


class TaskPageModel(BaseModel):
    user_id: str
    tasks: list[TaskModel]
    next_cursor: str | None


class TransformStatsModel(BaseModel):
    total: int
    by_status: dict[str, int]
    by_style: dict[str, int]
    success_rate: float | None
    failure_rate: float | None
    queue_length: int
    average_wait_seconds: float | None
    p95_wait_seconds: float | None
    average_run_seconds: float | None
    p95_run_seconds: float | None
    memory_in_use_bytes: int | None
    memory_in_use_mb: float | None
    instances: list[dict[str, Any]]
