"""/v1/workflows/{name}: looking at one closely, registering, editing, removing, its versions."""

from typing import Annotated, Any

from fastapi import APIRouter, Path, Query, Request
from fastapi.responses import Response

from atelier.api.documents import PROBLEMS_OF_ONE, PROBLEMS_OF_STATE
from atelier.api.json import Json
from atelier.api.native.body import json_object
from atelier.api.native.language import AcceptLanguage, in_language
from atelier.api.native.models import (
    PATCH_EXAMPLE,
    REGISTER_EXAMPLE,
    WorkflowDetailModel,
    WorkflowVersionListModel,
)
from atelier.api.native.render import version_json, workflow_detail_json
from atelier.api.preferences import preferred_language
from atelier.service import Services
from atelier.workflows.library import Workflow

Name = Annotated[str, Path(description="A workflow's name.", max_length=200)]


def _body_of(description: str, example: dict[str, Any]) -> dict[str, Any]:
    content = {"schema": {"type": "object", "description": description}, "example": example}
    return {"requestBody": {"required": True, "content": {"application/json": content}}}


def registering_router(services: Services) -> APIRouter:
    router = APIRouter(prefix="/v1/workflows", tags=["workflows"], responses=PROBLEMS_OF_ONE)
    overview, workflows = services.overview, services.workflows

    def detail(workflow: Workflow, *, present: bool = True, language: str = "en") -> dict[str, Any]:
        view = (
            overview.workflow(workflow.name, language)
            if present
            else overview.view_of(workflow, language=language)
        )
        return workflow_detail_json(view, workflow.graphs, overview.checks(workflow))

    @router.get("/{name}", response_model=WorkflowDetailModel, summary="Look at a workflow")
    async def get_workflow(
        name: Name,
        version: Annotated[
            str | None, Query(description="One of its versions, by hash or number.", max_length=64)
        ] = None,
        accept_language: AcceptLanguage = None,
    ) -> Response:
        """Its manifest, its graphs, a JSON Schema of its inputs, its variants with what each
        needs, and how it would fare at each instance."""
        language = preferred_language(accept_language)
        if version is None:
            shown = detail(await workflows.find(name), language=language)
        else:
            found = await workflows.version(name, version)
            shown = detail(found, present=False, language=language)
        return Json(shown, headers=in_language(language))

    @router.put(
        "/{name}",
        response_model=WorkflowDetailModel,
        responses={201: {"model": WorkflowDetailModel, "description": "The name is new."}},
        summary="Register a workflow",
        openapi_extra=_body_of(
            "A graph; or `graph` and `manifest`; or `workflow` and `inputs`, a list of names.",
            REGISTER_EXAMPLE,
        ),
    )
    async def put_workflow(
        request: Request,
        name: Name,
        dry_run: Annotated[bool, Query(description="Only show what it would be.")] = False,
    ) -> Response:
        """A graph alone gets a manifest by itself: what can be set is found by node type, links
        and titles. The answer shows it, and takes it back with changes. Every content that a name
        has meant stays one of its versions."""
        body = await json_object(request, "a graph, or a graph and a manifest")
        if dry_run:
            return Json(detail(workflows.try_out(name, body), present=False))
        registered = await workflows.put(name, body)
        return Json(detail(registered.workflow), 201 if registered.created else 200)

    @router.patch(
        "/{name}",
        response_model=WorkflowDetailModel,
        summary="Edit a workflow's manifest",
        openapi_extra=_body_of(
            "What changes in the manifest (JSON Merge Patch); `inputs` may go by name.",
            PATCH_EXAMPLE,
        ),
    )
    async def patch_workflow(request: Request, name: Name) -> Response:
        """Says only what changes: `{"inputs": {"steps": {"default": 8}, "cfg": null}}`. A shipped
        workflow is overridden by the result."""
        registered = await workflows.edit(name, await json_object(request, "a patch"))
        return Json(detail(registered.workflow))

    @router.delete(
        "/{name}", status_code=204, responses=PROBLEMS_OF_STATE, summary="Remove a workflow"
    )
    async def delete_workflow(name: Name) -> Response:
        """Only what was registered; a shipped workflow that it had overridden is there again.
        Its versions are kept, and jobs that wait still run."""
        await workflows.remove(name)
        return Response(status_code=204)

    @router.get(
        "/{name}/versions",
        response_model=WorkflowVersionListModel,
        summary="List a workflow's versions",
    )
    async def list_versions(name: Name) -> Response:
        """Newest first: what was registered, and what jobs were accepted with."""
        found = await workflows.versions(name)
        now = workflows.library.find(name)
        current = None if now is None else now.version
        return Json({"name": name, "versions": [version_json(one, current) for one in found]})

    return router
