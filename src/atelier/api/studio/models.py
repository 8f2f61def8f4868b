"""What this dialect takes and gives, as the OpenAPI document shows it."""

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from atelier.api.json import checked_plain
from atelier.examples import example_picture

MAX_IMAGES = 4
MAX_HISTORY = 100

AspectRatio = Literal["1:1", "16:9", "9:16", "2:3"]
GenerationStatus = Literal["queued", "processing", "finished", "failed", "cancelled"]

_Name = Annotated[str, Field(min_length=1, max_length=100)]
_Picture = Annotated[str, Field(min_length=1)]


class GenerateRequest(BaseModel):
    """Besides these, any other input of the workflow under its own name."""

    model_config = ConfigDict(
        extra="allow",
        json_schema_extra={
            "examples": [
                {
                    "workflow": "style_change",
                    "prompt": "",
                    "seed": -1,
                    "batch_size": 1,
                    "images": {"image": example_picture()},
                }
            ]
        },
    )
    __pydantic_extra__: dict[
        Annotated[str, AfterValidator(checked_plain)], Annotated[Any, AfterValidator(checked_plain)]
    ]

    workflow: Annotated[
        str, Field(min_length=1, max_length=200, description="GET /v1/workflows lists them.")
    ]
    prompt: Annotated[
        str | None,
        Field(max_length=10_000, description="What the picture shall show."),
        AfterValidator(checked_plain),
    ] = None
    seed: Annotated[
        int | None, Field(ge=-1, description="-1 draws one; the one used is reported back.")
    ] = None
    model: Annotated[
        str | None,
        Field(max_length=500, description="GET /api/models lists them; left out, the best."),
        AfterValidator(checked_plain),
    ] = None
    aspect_ratio: AspectRatio | None = None
    batch_size: Annotated[int, Field(ge=1, le=4, description="How many pictures.")] = 1
    cache: Annotated[
        bool,
        Field(description="The same with the same seed gives the pictures of then."),
    ] = True
    images: Annotated[
        dict[_Name, _Picture],
        Field(
            max_length=MAX_IMAGES,
            description="By name, such as `source` and `target`: `data:image/png;base64,...`, "
            "bare base64, `asset:ID`, or an http(s) URL.",
        ),
        AfterValidator(checked_plain),
    ] = {}


class AcceptedModel(BaseModel):
    job_id: str
    status: Literal["queued"]
    cached: bool = Field(description="An earlier one's pictures are there already.")
    seed: int | None = Field(description="The one that is used; null where nothing is drawn.")


class GenerationModel(BaseModel):
    job_id: str
    status: GenerationStatus
    progress: int = Field(ge=0, le=100)
    image_url: str | None = Field(description="The first picture, when finished.")
    image_urls: list[str]
    error: str | None = Field(description="When failed.")
    error_code: str | None
    message: str | None = Field(description="Why it waits, for a person.")
    seed: int | None
    cached: bool = Field(description="The pictures are those of an earlier generation.")
    queue_position: int | None
    eta_seconds: float | None


class RecordModel(BaseModel):
    """A generation in the history; null is what its workflow doesn't know."""

    id: str
    prompt: str | None
    workflow: str
    model: str | None
    aspect_ratio: str | None
    batch_size: int
    seed: int | None
    status: GenerationStatus
    output_path: str | None = Field(description="`/outputs/...` paths, separated by commas.")
    created_at: str
    updated_at: str


class HistoryModel(BaseModel):
    total: int
    limit: int
    offset: int
    jobs: list[RecordModel]


class ModelModel(BaseModel):
    name: str
    type: Literal["checkpoint", "unet"]
    instances: list[str] = Field(description="Where it is.")


class ModelListModel(BaseModel):
    checkpoints: list[str]
    unet: list[str] = Field(description="Diffusion models that come without their encoders.")
    models: list[ModelModel] = Field(description="Both.")
