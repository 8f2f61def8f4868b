"""/api/v1: submit one or many, poll, list, cancel, and figures."""

from typing import Annotated, Any

import uuid_utils
from fastapi import APIRouter, Path, Query, Request
from fastapi.responses import Response

from atelier.api.addresses import base_url
from atelier.api.documents import LIMITED, PROBLEMS, PROBLEMS_OF_ONE, PROBLEMS_OF_STATE
from atelier.api.fields import FieldError
from atelier.api.json import Json
from atelier.api.limits import SubmissionLimits
from atelier.api.paging import from_cursor, to_cursor
from atelier.api.problems import Problem, Refused, invalid, problem_of
from atelier.api.streams import OpenStreams
from atelier.api.transform.listen import add_streams
from atelier.api.transform.models import (
    BatchModel,
    BatchRequest,
    TaskModel,
    TaskPageModel,
    TransformRequest,
    TransformStatsModel,
)
from atelier.api.transform.pictures import checked_image_url
from atelier.api.transform.render import (
    FIELDS,
    accepted_entry,
    refused_entry,
    stats_json,
    task_json,
)
from atelier.errors import AtelierError
from atelier.service import Services, Submission

WORKFLOW = "style_change"
_SHOWN_URL_CHARACTERS = 200

TaskId = Annotated[str, Path(max_length=100)]
UserId = Annotated[str, Path(min_length=1, max_length=200)]


def transform_router(
    services: Services, streams: OpenStreams, *, public_url: str | None
) -> APIRouter:
    router = APIRouter(prefix="/api/v1", tags=["transform"])
    generations = services.generations
    limits = SubmissionLimits(services.limiter)

    @router.post(
        "/transform",
        response_model=TaskModel,
        responses=PROBLEMS,
        summary="Stylise a picture",
        openapi_extra=LIMITED,
    )
    async def transform(request: Request, body: TransformRequest) -> Response:
        """Answers at once with a `task_id`; poll the task or listen to it."""
        await limits.admit(request, body.user_id)
        try:
            view, _ = await generations.submit(_submission(body, body.image_url, None))
        except AtelierError as error:
            raise Refused(_problem(error)) from error
        return Json(task_json(view, base_url(request, public_url)))

    @router.post(
        "/transform/batch",
        response_model=BatchModel,
        responses=PROBLEMS,
        summary="Stylise many pictures",
        openapi_extra=LIMITED,
    )
    async def transform_batch(request: Request, body: BatchRequest) -> Response:
        """One entry per URL, in order; a bad URL is that entry's error, not the batch's."""
        batch = str(uuid_utils.uuid7())
        results: list[dict[str, Any]] = [{}] * len(body.image_urls)
        good: list[tuple[int, str]] = []
        for index, given in enumerate(body.image_urls):
            try:
                good.append((index, checked_image_url(given)))
            except ValueError as error:
                wrong = invalid(FieldError(f"image_urls.{index}", str(error)))
                results[index] = refused_entry(_shown(given), wrong)
        await limits.admit(request, body.user_id, len(good))
        submissions = [_submission(body, url, batch) for _, url in good]
        outcomes = await generations.submit_many(submissions)
        _refuse_all_alike(outcomes)
        for (index, url), outcome in zip(good, outcomes, strict=True):
            results[index] = (
                refused_entry(_shown(url), _problem(outcome))
                if isinstance(outcome, AtelierError)
                else accepted_entry(_shown(url), outcome)
            )
        accepted = sum(entry["task_id"] is not None for entry in results)
        document = {
            "batch_id": batch,
            "total": len(results),
            "accepted": accepted,
            "results": results,
        }
        return Json(document)

    @router.get(
        "/task/{task_id}",
        response_model=TaskModel,
        responses=PROBLEMS_OF_ONE,
        summary="Look at a task",
    )
    async def get_task(request: Request, task_id: TaskId) -> Response:
        return Json(task_json(await generations.get(task_id), base_url(request, public_url)))

    @router.post(
        "/task/{task_id}/cancel",
        response_model=TaskModel,
        responses=PROBLEMS_OF_STATE,
        summary="Cancel a task",
    )
    async def cancel_task(request: Request, task_id: TaskId) -> Response:
        """A waiting task is cancelled at once; a running one as soon as ComfyUI obeys."""
        return Json(task_json(await generations.cancel(task_id), base_url(request, public_url)))

    @router.get(
        "/user/{user_id}/tasks",
        response_model=TaskPageModel,
        responses=PROBLEMS,
        summary="A user's tasks, newest first",
    )
    async def user_tasks(
        request: Request,
        user_id: UserId,
        limit: Annotated[int, Query(ge=1, le=200)] = 50,
        cursor: Annotated[str | None, Query(description="`next_cursor` of a page.")] = None,
    ) -> Response:
        page = await generations.list(
            user=user_id, dialect="transform", limit=limit, cursor=from_cursor(cursor)
        )
        base = base_url(request, public_url)
        document = {
            "user_id": user_id,
            "tasks": [task_json(view, base) for view in page.jobs],
            "next_cursor": to_cursor(page.next_cursor),
        }
        return Json(document)

    @router.get("/stats", response_model=TransformStatsModel, responses=PROBLEMS, summary="Figures")
    async def stats() -> Response:
        return Json(stats_json(await services.overview.stats()))

    add_streams(router, services, streams, public_url)
    return router


def _submission(body: TransformRequest | BatchRequest, url: str, batch: str | None) -> Submission:
    inputs: dict[str, Any] = {
        "image": url,
        "style": body.style_type,
        "strength": body.strength,
    }
    if body.custom_prompt is not None and body.custom_prompt.strip():
        inputs["prompt"] = body.custom_prompt
    metadata = {"style": body.style_type} | ({} if batch is None else {"batch": batch})
    return Submission(
        workflow=WORKFLOW,
        inputs=inputs,
        user=body.user_id,
        metadata=metadata,
        dialect="transform",
    )


def _problem(error: AtelierError) -> Problem:
    return problem_of(error, names=FIELDS)


def _refuse_all_alike(outcomes: list[Any]) -> None:
    """Raise what every entry failed with when it isn't about the pictures.

    An unknown style, or a database that is away, is the request's error and not each entry's.
    """
    errors = [outcome for outcome in outcomes if isinstance(outcome, AtelierError)]
    if not errors or len(errors) < len(outcomes):
        return
    problems = [_problem(error) for error in errors]
    about_pictures = any(one.field == "image_url" for p in problems for one in p.errors)
    if len({problem.code for problem in problems}) == 1 and not about_pictures:
        first = problems[0]
        if first.errors or first.status == 503:
            raise Refused(first)


def _shown(url: object) -> str:
    """``url`` short enough to be sent back: a data: URL may hold megabytes."""
    text = url if isinstance(url, str) else repr(url)
    if len(text) <= _SHOWN_URL_CHARACTERS:
        return text
    return f"{text[:_SHOWN_URL_CHARACTERS]}…"
