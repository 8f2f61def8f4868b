"""/v1/workflows: what can be run, and running it with typed inputs."""

from typing import Annotated, Any

import orjson
from fastapi import APIRouter, Path, Query, Request
from fastapi.responses import Response
from starlette.datastructures import UploadFile

from atelier.api.documents import PROBLEMS_OF_ONE
from atelier.api.json import Json
from atelier.api.native.body import json_object
from atelier.api.native.models import JobModel, WorkflowListModel
from atelier.api.native.render import workflow_json
from atelier.api.native.submit import IdempotencyKey, Prefer, checked_key, submit
from atelier.service import Services, Submission, WorkflowView

Name = Annotated[str, Path(description="A workflow's name.", max_length=200)]


def workflows_router(services: Services) -> APIRouter:
    router = APIRouter(prefix="/v1/workflows", tags=["workflows"], responses=PROBLEMS_OF_ONE)
    overview = services.overview

    @router.get("", response_model=WorkflowListModel, summary="List workflows")
    async def list_workflows() -> Response:
        return Json(
            {
                "workflows": [workflow_json(view) for view in overview.workflows()],
                "problems": overview.workflow_problems(),
            }
        )

    @router.post(
        "/{name}",
        status_code=202,
        response_model=JobModel,
        responses={200: {"model": JobModel, "description": "Finished in the time of `Prefer`."}},
        summary="Run a workflow",
        openapi_extra={
            "requestBody": {
                "required": True,
                "content": {"application/json": {"schema": {"type": "object"}}},
            }
        },
    )
    async def run_workflow(
        request: Request,
        name: Name,
        user: Annotated[str, Query(min_length=1, max_length=200)] = "anonymous",
        priority: Annotated[int, Query(ge=-100, le=100)] = 0,
        idempotency_key: IdempotencyKey = None,
        prefer: Prefer = None,
    ) -> Response:
        """The body is the inputs, as JSON, or as a form whose files are pictures. With
        `Accept: image/*` the answer is the picture itself, after at most a minute."""
        await services.workflows.find(name)
        workflow = overview.workflow(name)
        submission = Submission(
            workflow=name,
            inputs=await _inputs(services, request, workflow, user),
            user=user,
            priority=priority,
            dialect="native",
            idempotency_key=checked_key(idempotency_key),
        )
        return await submit(services, request, submission, "")

    return router


async def _inputs(
    services: Services, request: Request, workflow: WorkflowView, user: str
) -> dict[str, Any]:
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind in ("multipart/form-data", "application/x-www-form-urlencoded"):
        return await _form_inputs(services, request, workflow, user)
    return await json_object(request, "the workflow's inputs", if_empty=b"{}")


async def _form_inputs(
    services: Services, request: Request, workflow: WorkflowView, user: str
) -> dict[str, Any]:
    """Form fields as inputs: files are kept as assets, numbers become numbers."""
    types = {one["name"]: one["type"] for one in workflow.manifest.get("inputs", ())}
    inputs: dict[str, Any] = {}
    async with request.form(max_files=20, max_fields=200) as form:
        for name, value in form.items():
            if isinstance(value, UploadFile):
                data = await value.read()
                asset = await services.assets.upload(data, filename=value.filename, user=user)
                inputs[name] = {"asset": asset.id}
            else:
                inputs[name] = _typed(value, types.get(name))
    return inputs


def _typed(text: str, kind: str | None) -> Any:
    """``text`` as the input's type, or as it is where it doesn't fit: the check will name it."""
    if kind in ("integer", "seed", "float", "boolean", "size"):
        try:
            return orjson.loads(text)
        except orjson.JSONDecodeError:
            return text
    return text
