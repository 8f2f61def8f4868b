"""/v1/workflows: what can be run, and running it with typed inputs."""

from typing import Annotated, Any

import orjson
from fastapi import APIRouter, Path, Query, Request
from fastapi.responses import Response
from starlette.datastructures import UploadFile

from atelier.api.documents import KEY_REUSED, LIMITED, PICTURE, PROBLEMS_OF_ONE
from atelier.api.json import Json
from atelier.api.native.body import json_object
from atelier.api.native.conversion import (
    FIELDS,
    Format,
    MaxSize,
    Quality,
    conversion_of_texts,
)
from atelier.api.native.language import AcceptLanguage, in_language
from atelier.api.native.models import JobModel, WorkflowListModel
from atelier.api.native.render import workflow_json
from atelier.api.native.submit import IdempotencyKey, Prefer, checked_key, submit
from atelier.api.preferences import preferred_language
from atelier.media.conversion import conversion_of
from atelier.service import Services, Submission, WorkflowView

Name = Annotated[str, Path(description="A workflow's name.", max_length=200)]


def workflows_router(services: Services) -> APIRouter:
    router = APIRouter(prefix="/v1/workflows", tags=["workflows"], responses=PROBLEMS_OF_ONE)
    overview = services.overview

    @router.get("", response_model=WorkflowListModel, summary="List workflows")
    async def list_workflows(accept_language: AcceptLanguage = None) -> Response:
        """Texts beside the manifests are in the language of `Accept-Language`."""
        language = preferred_language(accept_language)
        shown = [workflow_json(view) for view in overview.workflows(language)]
        body = {"workflows": shown, "problems": overview.workflow_problems()}
        return Json(body, headers=in_language(language))

    @router.post(
        "/{name}",
        status_code=202,
        response_model=JobModel,
        responses={
            **KEY_REUSED,
            200: {
                "model": JobModel,
                "content": PICTURE,
                "description": "Finished in the time of `Prefer`.",
            },
        },
        summary="Run a workflow",
        openapi_extra={
            **LIMITED,
            "requestBody": {
                "required": True,
                "content": {
                    "application/json": {"schema": {"type": "object"}},
                    "multipart/form-data": {"schema": {"type": "object"}},
                },
            },
        },
    )
    async def run_workflow(
        request: Request,
        name: Name,
        user: Annotated[str, Query(min_length=1, max_length=200)] = "anonymous",
        priority: Annotated[int, Query(ge=-100, le=100)] = 0,
        format: Format = None,
        quality: Quality = None,
        max_size: MaxSize = None,
        cache: Annotated[bool, Query(description="As in `POST /v1/jobs`.")] = False,
        idempotency_key: IdempotencyKey = None,
        prefer: Prefer = None,
    ) -> Response:
        """The body is the inputs, as JSON, or as a form whose files are pictures and which may
        hold `format`, `quality` and `max_size` too. With `Accept: image/*` the answer is the
        picture itself, after at most five minutes; with `Accept: image/webp` in that format."""
        await services.workflows.find(name)
        workflow = overview.workflow(name)
        conversion = conversion_of(format, quality, max_size)
        inputs, options = await _inputs(services, request, workflow, user)
        submission = Submission(
            workflow=name,
            inputs=inputs,
            user=user,
            priority=priority,
            dialect="native",
            idempotency_key=checked_key(idempotency_key),
            conversion=conversion or conversion_of_texts(options),
            cache=cache,
        )
        return await submit(services, request, submission, "")

    return router


async def _inputs(
    services: Services, request: Request, workflow: WorkflowView, user: str
) -> tuple[dict[str, Any], dict[str, str]]:
    """The workflow's inputs, and what a form says of the pictures that are to come."""
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind in ("multipart/form-data", "application/x-www-form-urlencoded"):
        return await _form_inputs(services, request, workflow, user)
    return await json_object(request, "the workflow's inputs", if_empty=b"{}"), {}


async def _form_inputs(
    services: Services, request: Request, workflow: WorkflowView, user: str
) -> tuple[dict[str, Any], dict[str, str]]:
    """Form fields as inputs: files are kept as assets, numbers become numbers.

    ``format`` and its like are options, unless the workflow has an input of that name.
    """
    types = {one["name"]: one["type"] for one in workflow.manifest.get("inputs", ())}
    inputs: dict[str, Any] = {}
    options: dict[str, str] = {}
    async with request.form(max_files=20, max_fields=200) as form:
        for name, value in form.items():
            if isinstance(value, UploadFile):
                data = await value.read()
                asset = await services.assets.upload(data, filename=value.filename, user=user)
                inputs[name] = {"asset": asset.id}
            elif name in FIELDS and name not in types:
                options[name] = value
            else:
                inputs[name] = _typed(value, types.get(name))
    return inputs, options


def _typed(text: str, kind: str | None) -> Any:
    """``text`` as the input's type, or as it is where it doesn't fit: the check will name it."""
    if kind in ("integer", "seed", "float", "boolean", "size"):
        try:
            return orjson.loads(text)
        except orjson.JSONDecodeError:
            return text
    return text
