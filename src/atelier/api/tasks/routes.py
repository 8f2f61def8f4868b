"""/api/tasks: create, look, list, cancel, retry."""

import re
from typing import Annotated

from fastapi import APIRouter, Path, Query, Request
from fastapi.responses import Response

from atelier.api.addresses import base_url
from atelier.api.documents import LIMITED
from atelier.api.json import Json
from atelier.api.limits import SubmissionLimits
from atelier.api.paging import from_cursor, to_cursor
from atelier.api.problems import Refused, dialect_route, problem_of
from atelier.api.shapes import Shape, shape
from atelier.api.streams import OpenStreams
from atelier.api.tasks.documents import ERRORS, ERRORS_OF_ONE, ERRORS_OF_STATE
from atelier.api.tasks.listen import add_streams
from atelier.api.tasks.models import (
    AcceptedModel,
    CreateTask,
    TaskModel,
    TaskPageModel,
    TaskStatus,
)
from atelier.api.tasks.render import FIELDS, STATUSES, accepted_json, error_response, task_json
from atelier.api.tasks.state import add_state
from atelier.errors import AtelierError
from atelier.service import Services, Submission

TaskId = Annotated[str, Path(max_length=100)]
# Wrong fields of the submission itself; others are inputs of the workflow.
_NAMES = {"webhook_url": "webhook_url", **FIELDS}

# What stands below /api/status/ is another dialect's.
TASKS_SHAPES = (
    shape("/api/(?:tasks|comfyui-[^/]*|health)", error_response),
    Shape(re.compile("/api/status"), error_response),
)


def tasks_router(
    services: Services,
    streams: OpenStreams,
    *,
    public_url: str | None,
    environment: str,
    version: str,
) -> APIRouter:
    router = APIRouter(prefix="/api", tags=["tasks"], route_class=dialect_route(error_response))
    generations = services.generations
    limits = SubmissionLimits(services.limiter)

    @router.post(
        "/tasks/create",
        response_model=AcceptedModel,
        responses=ERRORS_OF_ONE,
        summary="Create a task",
        openapi_extra=LIMITED,
    )
    async def create_task(request: Request, body: CreateTask) -> Response:
        """Answers at once with a `task_id`; poll the task, listen to it, or be told by webhook."""
        await limits.admit(request, body.user_id)
        try:
            view, _ = await generations.submit(_submission(body))
        except AtelierError as error:
            raise Refused(problem_of(error, names=_NAMES, prefix="inputs.")) from error
        return Json(accepted_json(view))

    @router.get(
        "/tasks", response_model=TaskPageModel, responses=ERRORS, summary="Tasks, newest first"
    )
    async def list_tasks(
        request: Request,
        status: Annotated[TaskStatus | None, Query()] = None,
        user_id: Annotated[str | None, Query(max_length=200)] = None,
        workflow: Annotated[str | None, Query(max_length=200)] = None,
        limit: Annotated[int, Query(ge=1, le=200)] = 50,
        cursor: Annotated[str | None, Query(description="`next_cursor` of a page.")] = None,
    ) -> Response:
        """Of every dialect, in the words of this one."""
        page = await generations.list(
            user=user_id,
            status=() if status is None else (STATUSES[status],),
            workflow=workflow,
            limit=limit,
            cursor=from_cursor(cursor),
        )
        base = base_url(request, public_url)
        tasks = [task_json(view, base) for view in page.jobs]
        return Json({"tasks": tasks, "next_cursor": to_cursor(page.next_cursor)})

    add_streams(router, services, streams, public_url)

    @router.get(
        "/tasks/{task_id}",
        response_model=TaskModel,
        responses=ERRORS_OF_ONE,
        summary="Look at a task",
    )
    async def get_task(request: Request, task_id: TaskId) -> Response:
        return Json(task_json(await generations.get(task_id), base_url(request, public_url)))

    @router.post(
        "/tasks/{task_id}/cancel",
        response_model=TaskModel,
        responses=ERRORS_OF_STATE,
        summary="Cancel a task",
    )
    async def cancel_task(request: Request, task_id: TaskId) -> Response:
        """A waiting task is cancelled at once; a running one as soon as ComfyUI obeys."""
        return Json(task_json(await generations.cancel(task_id), base_url(request, public_url)))

    @router.post(
        "/tasks/{task_id}/retry",
        response_model=TaskModel,
        responses=ERRORS_OF_STATE,
        summary="Run a task again",
        openapi_extra=LIMITED,
    )
    async def retry_task(request: Request, task_id: TaskId) -> Response:
        """Puts a failed or cancelled task back into the queue, with all its retries."""
        await limits.admit(request, (await generations.get(task_id)).job.user)
        return Json(task_json(await generations.retry(task_id), base_url(request, public_url)))

    add_state(router, services, environment=environment, version=version)
    return router


def _submission(body: CreateTask) -> Submission:
    return Submission(
        workflow=body.workflow,
        inputs=body.inputs,
        user=body.user_id,
        priority=body.priority,
        metadata=body.metadata,
        max_attempts=None if body.max_retries is None else body.max_retries + 1,
        dialect="tasks",
        webhook_url=body.webhook_url,
    )
