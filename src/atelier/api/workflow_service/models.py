"""What this dialect takes and gives, as the OpenAPI document shows it."""

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from atelier.api.json import checked_plain
from atelier.api.workflow_service.errors import Code
from atelier.examples import example_picture

ANONYMOUS = "anonymous"
MAX_CLIENT_ID = 200
CLIENT_ID_WRONG = f"must be 1 to {MAX_CLIENT_ID} printable characters"

RunStatus = Literal["queued", "running", "success", "error", "interrupted"]


def is_client_id(text: str) -> bool:
    return 0 < len(text) <= MAX_CLIENT_ID and text.isprintable()


def _printable(value: str) -> str:
    if not value.isprintable():
        raise ValueError("must be printable text")
    return value


ClientId = Annotated[str, Field(min_length=1, max_length=MAX_CLIENT_ID), AfterValidator(_printable)]


def example_graph() -> dict[str, Any]:
    """A graph of core nodes, with a picture inside: it runs wherever it is pressed."""
    return {
        "1": {"class_type": "LoadImage", "inputs": {"image": example_picture()}},
        "2": {"class_type": "ImageInvert", "inputs": {"image": ["1", 0]}},
        "3": {
            "class_type": "SaveImage",
            "inputs": {"images": ["2", 0], "filename_prefix": "inverted"},
        },
    }


class SubmitWorkflow(BaseModel):
    model_config = ConfigDict(
        json_schema_extra={"examples": [{"workflow": example_graph(), "client_id": "ada"}]}
    )

    workflow: Annotated[
        dict[str, Any],
        AfterValidator(checked_plain),
        Field(description="A graph in ComfyUI's API format."),
    ]
    client_id: Annotated[
        ClientId, Field(description="WS /api/v1/ws/{client_id} hears how the run goes.")
    ] = ANONYMOUS


class InterruptRuns(BaseModel):
    # A misspelt name would otherwise stop everything.
    model_config = ConfigDict(extra="forbid", json_schema_extra={"examples": [{}]})

    prompt_id: Annotated[
        str | None,
        Field(max_length=100, description="This run only; left out, all that are running."),
        AfterValidator(checked_plain),
    ] = None


class ClearRequest(BaseModel):
    model_config = ConfigDict(json_schema_extra={"examples": [{"clear": True}]})

    clear: Literal[True] = Field(description="Must be true: everything that waits is cancelled.")


class CodedErrorModel(BaseModel):
    code: Code
    message: str
    details: dict[str, Any] = Field(
        description="`reason` (a finer code), `hint`, `retryable`, and what belongs to the code: "
        "`node_errors` of a graph, `errors` of fields, `node` and `traceback` of a run."
    )


class SubmittedModel(BaseModel):
    prompt_id: str
    client_id: str
    number: int = Field(description="Rises with every submission, as in queue and history.")
    status: RunStatus
    queue_position: int | None = Field(description="1 is next; null unless it waits.")
    message: str | None = Field(description="Why it waits, for a person.")


class ImageModel(BaseModel):
    filename: str
    subfolder: str
    type: Literal["output", "temp"]
    node: str | None
    url: str
    thumbnail_url: str | None
    media_type: str
    width: int | None
    height: int | None
    size_bytes: int


class ImagesModel(BaseModel):
    prompt_id: str
    status: RunStatus
    images: list[ImageModel]


class InterruptedRunsModel(BaseModel):
    interrupted: list[str] = Field(description="The runs that were told to stop.")


class ClearedModel(BaseModel):
    cleared: int
    prompt_ids: list[str]


class QueueInstanceModel(BaseModel):
    id: str
    state: Literal["up", "down", "draining"]
    running: list[str] = Field(description="Runs that this process has there.")
    queue_remaining: int | None = Field(description="Its own queue, strangers' prompts included.")
    error: CodedErrorModel | None = Field(description="CONNECTION_ERROR while it can't be reached.")


class RunsQueueModel(BaseModel):
    """Entries are ComfyUI's: [number, prompt_id, graph, extra_data, nodes that deliver]."""

    running: int
    pending: int
    queue_running: list[list[Any]]
    queue_pending: list[list[Any]]
    instances: list[QueueInstanceModel]


class UploadedModel(BaseModel):
    name: str
    subfolder: str
    type: Literal["input"]


class UrlModel(BaseModel):
    url: str
    filename: str
    subfolder: str
    type: str
