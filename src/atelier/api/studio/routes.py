"""/api: generate, poll, cancel, look back; /outputs: the pictures."""

from dataclasses import replace
from typing import Annotated, Any

from fastapi import APIRouter, Path, Query, Request
from fastapi.responses import Response

from atelier.api.documents import LIMITED, PROBLEMS, PROBLEMS_OF_ONE, PROBLEMS_OF_STATE
from atelier.api.fields import FieldError, sentence
from atelier.api.files import FILE, REDIRECT, file_response
from atelier.api.json import Json
from atelier.api.limits import SubmissionLimits
from atelier.api.problems import Problem, Refused, problem_of
from atelier.api.studio.models import (
    MAX_HISTORY,
    AcceptedModel,
    GenerateRequest,
    GenerationModel,
    HistoryModel,
    ModelListModel,
)
from atelier.api.studio.render import (
    DIALECT,
    accepted_json,
    generation_json,
    models_json,
    record_json,
)
from atelier.errors import AtelierError
from atelier.service import Fitted, Services, Submission, Wish

_ADDRESSES = ("data:", "http://", "https://", "asset:")

JobId = Annotated[str, Path(max_length=100)]


def studio_router(services: Services) -> APIRouter:
    router = APIRouter(tags=["studio"])
    generations = services.generations

    @router.post(
        "/api/generate",
        status_code=202,
        response_model=AcceptedModel,
        responses=PROBLEMS_OF_ONE,
        summary="Make one or more pictures",
        openapi_extra=LIMITED,
    )
    async def generate(request: Request, body: GenerateRequest) -> Response:
        """Answers at once with a `job_id` to poll. All pictures of a batch are of that one job."""
        # This dialect names no users.
        await SubmissionLimits(services.limiter).admit(request, None)
        fitted = Fitted({}, {})
        try:
            fitted = generations.fit(body.workflow, _wish(body))
            view, _ = await generations.submit(_submission(body, fitted))
        except AtelierError as error:
            raise Refused(_problem(error, fitted)) from error
        return Json(accepted_json(view), 202)

    @router.get(
        "/api/status/{job_id}",
        response_model=GenerationModel,
        responses=PROBLEMS_OF_ONE,
        summary="Look at a generation",
    )
    async def status(job_id: JobId) -> Response:
        return Json(generation_json(await generations.get(job_id)))

    @router.post(
        "/api/cancel/{job_id}",
        response_model=GenerationModel,
        responses=PROBLEMS_OF_STATE,
        summary="Cancel a generation",
    )
    async def cancel(job_id: JobId) -> Response:
        """One that waits is cancelled at once; one that runs as soon as ComfyUI obeys."""
        return Json(generation_json(await generations.cancel(job_id)))

    @router.get(
        "/api/history",
        response_model=HistoryModel,
        responses=PROBLEMS,
        summary="All generations, newest first",
    )
    async def history(
        limit: Annotated[int, Query(ge=1, le=MAX_HISTORY)] = 50,
        offset: Annotated[int, Query(ge=0, le=10**9)] = 0,
    ) -> Response:
        """Jobs that came over the other APIs are here too."""
        found = await generations.history(limit=limit, offset=offset)
        document = {
            "total": found.total,
            "limit": limit,
            "offset": offset,
            "jobs": [record_json(view) for view in found.jobs],
        }
        return Json(document)

    @router.delete(
        "/api/history/{job_id}",
        status_code=204,
        responses=PROBLEMS_OF_STATE,
        summary="Take a generation out of the history",
    )
    async def forget(job_id: JobId) -> Response:
        """Only one that has ended."""
        await generations.delete(job_id)
        return Response(status_code=204)

    @router.get(
        "/api/models",
        response_model=ModelListModel,
        responses=PROBLEMS,
        summary="Models that the instances have",
    )
    async def models() -> Response:
        return Json(models_json(services.overview.models()))

    _add_outputs(router, services)
    return router


def _add_outputs(router: APIRouter, services: Services) -> None:
    async def output(request: Request, filename: str) -> Response:
        """Answers ranges and conditional requests; the content behind a name never changes."""
        return await file_response(await services.assets.open_output(filename), request)

    # All below /outputs, so that a name with a slash in it is told like any other unknown one.
    path = "/outputs/{filename:path}"
    router.add_api_route(
        path,
        output,
        methods=["GET"],
        response_class=Response,
        responses={**PROBLEMS_OF_ONE, **FILE, **REDIRECT},
        summary="Fetch a picture by its name",
    )
    router.add_api_route(
        path, output, methods=["HEAD"], response_class=Response, include_in_schema=False
    )


def _wish(body: GenerateRequest) -> Wish:
    return Wish(
        prompt=body.prompt,
        seed=body.seed,
        model=body.model,
        aspect_ratio=body.aspect_ratio,
        batch_size=body.batch_size,
        images={name: _address(picture) for name, picture in body.images.items()},
        more=body.__pydantic_extra__,
    )


def _address(picture: str) -> str:
    """``picture`` as an address: what has no scheme is base64."""
    picture = picture.strip()
    known = picture[:8].lower().startswith(_ADDRESSES)
    return picture if known else f"data:;base64,{picture}"


def _submission(body: GenerateRequest, fitted: Fitted) -> Submission:
    asked: dict[str, Any] = {
        "prompt": body.prompt,
        "model": body.model,
        "aspect_ratio": body.aspect_ratio,
        "batch_size": body.batch_size,
    }
    return Submission(
        workflow=body.workflow,
        inputs=fitted.inputs,
        metadata={name: value for name, value in asked.items() if value is not None},
        dialect=DIALECT,
        check_pictures=True,
        cache=body.cache,
    )


def _problem(error: AtelierError, fitted: Fitted) -> Problem:
    """The error, its fields named as the caller named them."""
    problem = problem_of(error, names=fitted.words)
    name = error.data.get("input")
    if problem.errors:
        return problem
    if error.code == "WORKFLOW_UNKNOWN":
        wrong = FieldError("workflow", "is not one that there is", error.data.get("allowed"))
        return replace(problem, errors=(wrong,))
    if isinstance(name, str):
        message = error.message[:1].lower() + error.message[1:].rstrip(".")
        wrong = FieldError(fitted.words.get(name, name), f"can't be used: {message}")
        return replace(problem, detail=sentence((wrong,)), errors=(wrong,))
    return problem
