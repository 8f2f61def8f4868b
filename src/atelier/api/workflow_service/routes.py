"""/api/v1/workflows and /api/v1/queue: submit, look, stop."""

from collections.abc import Sequence
from typing import Annotated, Any

from fastapi import APIRouter, Path, Query, Request
from fastapi.responses import Response

from atelier.api.addresses import base_url
from atelier.api.documents import LIMITED
from atelier.api.json import Json
from atelier.api.limits import SubmissionLimits
from atelier.api.problems import Problem, Refused, dialect_route
from atelier.api.shapes import shape
from atelier.api.streams import OpenStreams
from atelier.api.workflow_service.errors import rendering, run_error_json, run_error_response
from atelier.api.workflow_service.files import files_router
from atelier.api.workflow_service.models import (
    ClearedModel,
    ClearRequest,
    CodedErrorModel,
    ImagesModel,
    InterruptedRunsModel,
    InterruptRuns,
    RunsQueueModel,
    SubmittedModel,
    SubmitWorkflow,
)
from atelier.api.workflow_service.render import (
    STATUS_WORDS,
    history_json,
    images_json,
    instance_json,
    queue_entries,
    submitted_json,
)
from atelier.api.workflow_service.socket import add_socket
from atelier.errors import NotFound
from atelier.service import JobView, Services, Submission

DIALECT = "workflow_service"

_EVERYTHING = InterruptRuns()

PromptId = Annotated[str, Path(max_length=100)]
_WRONG: dict[int | str, dict[str, Any]] = {
    422: {
        "model": CodedErrorModel,
        "description": "It can't be done as asked; `details` says why.",
    },
    429: {"model": CodedErrorModel, "description": "A limit is reached; see `Retry-After`."},
    503: {"model": CodedErrorModel, "description": "We can't just now; try again."},
}
_FAILED: dict[int | str, dict[str, Any]] = {
    **_WRONG,
    404: {"model": CodedErrorModel, "description": "There is no such run."},
    502: {"model": CodedErrorModel, "description": "The run failed: its ComfyUI was lost."},
    504: {"model": CodedErrorModel, "description": "The run failed: it took too long."},
}
_STOPPING: dict[int | str, dict[str, Any]] = {
    **_WRONG,
    404: {"model": CodedErrorModel, "description": "There is no such run."},
    409: {"model": CodedErrorModel, "description": "It has already ended."},
}

WORKFLOW_SERVICE_SHAPES = (
    shape("/api/v1/(?:queue|workflows/interrupt)", rendering("QUEUE_OPERATION_ERROR")),
    shape("/api/v1/workflows", rendering("WORKFLOW_VALIDATION_ERROR")),
    shape("/api/v1/images", rendering("FILE_OPERATION_ERROR")),
    shape("/api/v1/ws", rendering("WEBSOCKET_ERROR")),
)


def workflow_service_router(
    services: Services, streams: OpenStreams, *, public_url: str | None
) -> APIRouter:
    router = APIRouter(prefix="/api/v1", tags=["workflow service"])
    router.include_router(_workflows(services, public_url))
    router.include_router(_queue(services))
    router.include_router(files_router(services, public_url))
    add_socket(router, services, streams, public_url=public_url, dialect=DIALECT)
    return router


def _workflows(services: Services, public_url: str | None) -> APIRouter:
    router = APIRouter(
        prefix="/workflows", route_class=dialect_route(rendering("WORKFLOW_VALIDATION_ERROR"))
    )
    generations = services.generations

    @router.post(
        "/submit",
        response_model=SubmittedModel,
        responses=_WRONG,
        summary="Submit a graph",
        openapi_extra=LIMITED,
    )
    async def submit_workflow(request: Request, body: SubmitWorkflow) -> Response:
        """Answers once the run is safely in the queue; `prompt_id` stays the same whatever
        happens to it. Pictures in the graph may be uploaded names, URLs or `data:` URLs."""
        await SubmissionLimits(services.limiter).admit(request, body.client_id)
        submission = Submission(workflow=body.workflow, user=body.client_id, dialect=DIALECT)
        view, _ = await generations.submit(submission)
        return Json(submitted_json(view))

    @router.get(
        "/{prompt_id}/history",
        responses={
            **_WRONG,
            200: {"content": {"application/json": {"schema": {"type": "object"}}}},
        },
        response_class=Response,
        summary="A run's history, as ComfyUI tells it",
    )
    async def workflow_history(prompt_id: PromptId) -> Response:
        """`{}` until the run has ended, and for one that isn't known."""
        try:
            view = await generations.get(prompt_id)
        except NotFound:
            return Json({})
        texts = await services.files.texts((*view.outputs, *view.previews))
        return Json(history_json(view, generations.graph(view), texts))

    @router.get(
        "/{prompt_id}/images",
        response_model=ImagesModel,
        responses=_FAILED,
        summary="The pictures that a run made",
    )
    async def workflow_images(request: Request, prompt_id: PromptId) -> Response:
        """None before the run has ended; the error of one that failed."""
        try:
            view = await generations.get(prompt_id)
        except NotFound as error:
            raise Refused(Problem("FILE_UNKNOWN", 404, error.message, error.hint)) from error
        job = view.job
        if job.status in ("failed", "cancelled"):
            return run_error_response(run_error_json(job.error if job.status == "failed" else None))
        document = {
            "prompt_id": job.id,
            "status": STATUS_WORDS[job.status],
            "images": images_json(job.id, view.outputs, base_url(request, public_url)),
        }
        return Json(document)

    return router


def _queue(services: Services) -> APIRouter:
    router = APIRouter(route_class=dialect_route(rendering("QUEUE_OPERATION_ERROR")))
    generations = services.generations

    @router.post(
        "/workflows/interrupt",
        response_model=InterruptedRunsModel,
        responses=_STOPPING,
        summary="Stop a run, or all that are running",
    )
    async def interrupt_workflow(body: InterruptRuns = _EVERYTHING) -> Response:
        """A run that is named and still waits is taken out of the queue."""
        return Json({"interrupted": await generations.interrupt(job=body.prompt_id or None)})

    @router.get(
        "/queue/status",
        response_model=RunsQueueModel,
        responses=_WRONG,
        summary="Running and pending",
    )
    async def queue_status(
        limit: Annotated[int, Query(ge=1, le=200, description="Entries of each list.")] = 100,
    ) -> Response:
        line = await generations.line(limit)

        def entries(views: Sequence[JobView]) -> list[list[Any]]:
            return queue_entries([(view, generations.graph(view)) for view in views])

        document = {
            "running": line.running_count,
            "pending": line.waiting_count,
            "queue_running": entries(line.running),
            "queue_pending": entries(line.waiting),
            "instances": [instance_json(one) for one in services.overview.instances()],
        }
        return Json(document)

    @router.post(
        "/queue/clear",
        response_model=ClearedModel,
        responses=_WRONG,
        summary="Cancel everything that waits",
    )
    async def clear_queue(body: ClearRequest) -> Response:
        cleared = await generations.clear_queue()
        return Json({"cleared": len(cleared), "prompt_ids": cleared})

    return router
