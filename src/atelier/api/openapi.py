"""The OpenAPI document: the routes', and a typed run for every workflow that there is now."""

from collections.abc import Mapping, Sequence
from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

from atelier.api.documents import ProblemModel
from atelier.api.native.conversion import OutputOptions
from atelier.service import WorkflowView

TYPED_RUN = "/v1/workflows/{name}"
_REFERENCES = "#/components/schemas/{model}"


def document(app: FastAPI, workflows: Sequence[WorkflowView]) -> dict[str, Any]:
    """The document for ``app`` with ``workflows``."""
    made = get_openapi(
        title=app.title,
        version=app.version,
        description=app.description,
        routes=app.routes,
        tags=app.openapi_tags,
    )
    schemas = made["components"]["schemas"]
    # The framework describes an error shape that never leaves this service.
    for name in ("HTTPValidationError", "ValidationError"):
        schemas.pop(name, None)
    problem = ProblemModel.model_json_schema(ref_template=_REFERENCES)
    schemas.update(problem.pop("$defs", {}))
    schemas["ProblemModel"] = problem
    for operations in made["paths"].values():
        for operation in operations.values():
            _add_refusals(operation)
    general = made["paths"][TYPED_RUN]["post"]
    for workflow in workflows:
        made["paths"][f"/v1/workflows/{workflow.name}"] = {"post": _typed_run(general, workflow)}
    return made


def _add_refusals(operation: dict[str, Any]) -> None:
    """What is refused before a route is reached, in the shape of what the route refuses."""
    responses = operation["responses"]
    refusal = responses.get("422")
    if refusal is None:
        return
    body = operation.get("requestBody", {}).get("content", {})
    may = {
        "400": "multipart/form-data" in body and "The form can't be read.",
        "404": any(one["in"] == "path" for one in operation.get("parameters", ()))
        and "There is no such thing.",
        "413": body and "The body is too large.",
        "429": operation.get("x-rate-limited")
        and "Too much was submitted; try again after `Retry-After` seconds.",
    }
    for status, description in may.items():
        if description:
            responses.setdefault(status, {**refusal, "description": description})


def _typed_run(general: Mapping[str, Any], workflow: WorkflowView) -> dict[str, Any]:
    schema = {key: value for key, value in workflow.input_schema.items() if key != "$schema"}
    parameters = [one for one in general.get("parameters", ()) if one.get("in") != "path"]
    return {
        **general,
        "tags": ["workflows"],
        "summary": f"Run {workflow.title or workflow.name}",
        "description": workflow.help or general.get("description", ""),
        "operationId": f"run_{workflow.name}",
        "parameters": parameters,
        "requestBody": {
            "required": True,
            "content": {
                "application/json": {"schema": schema, "example": dict(workflow.example)},
                "multipart/form-data": {
                    "schema": _form_schema(workflow),
                    "encoding": {name: {"contentType": "image/*"} for name in _files(workflow)},
                },
            },
        },
    }


def _files(workflow: WorkflowView) -> list[str]:
    """The inputs that a form sends as files."""
    inputs = workflow.manifest.get("inputs", ())
    return [one["name"] for one in inputs if one["type"] in ("image", "mask")]


def _form_schema(workflow: WorkflowView) -> dict[str, Any]:
    """The same inputs as form fields, pictures as files, and how pictures are wanted."""
    properties: dict[str, Any] = {}
    required = []
    files = _files(workflow)
    for declared in workflow.manifest.get("inputs", ()):
        name = declared["name"]
        is_file = name in files
        known = workflow.input_schema.get("properties", {}).get(name, {})
        properties[name] = {"type": "string", "format": "binary"} if is_file else known
        if declared.get("required"):
            required.append(name)
    options = OutputOptions.model_json_schema()["properties"]
    return {"type": "object", "properties": {**options, **properties}, "required": required}
