"""/docs, /redoc and the OpenAPI document, all without the internet."""

from importlib.util import find_spec
from pathlib import Path
from typing import Any

from fastapi import FastAPI, Request
from fastapi.openapi.docs import (
    get_redoc_html,
    get_swagger_ui_html,
    get_swagger_ui_oauth2_redirect_html,
)
from fastapi.responses import HTMLResponse
from fastapi.staticfiles import StaticFiles
from pydantic import BaseModel, Field

_STATIC = "/docs-static"
_OAUTH = "/docs/oauth2-redirect"


class FieldErrorModel(BaseModel):
    field: str = Field(examples=["strength"])
    message: str = Field(examples=["must be at most 1; it is 7"])
    allowed: Any = None


class ProblemModel(BaseModel):
    """RFC 9457 problem document; docs/api/errors.md lists the codes."""

    type: str = Field(examples=["urn:atelier:problem:INVALID_REQUEST"])
    title: str = Field(examples=["Invalid request"])
    status: int = Field(examples=[422])
    code: str = Field(examples=["INVALID_REQUEST"])
    detail: str = Field(examples=["strength must be at most 1; it is 7."])
    hint: str | None = None
    retryable: bool = False
    instance: str | None = Field(default=None, examples=["/v1/jobs"])
    errors: list[FieldErrorModel] | None = None
    data: dict[str, Any] | None = None


def _problem(description: str) -> dict[str, Any]:
    schema = {"$ref": "#/components/schemas/ProblemModel"}
    return {"description": description, "content": {"application/problem+json": {"schema": schema}}}


PROBLEMS: dict[int | str, dict[str, Any]] = {
    422: _problem("Something in the request is wrong; `errors` names the fields."),
    503: _problem("We can't just now; try again after `Retry-After` seconds."),
}
PROBLEMS_OF_ONE: dict[int | str, dict[str, Any]] = {
    **PROBLEMS,
    404: _problem("There is no such thing."),
}
PROBLEMS_OF_STATE: dict[int | str, dict[str, Any]] = {
    **PROBLEMS_OF_ONE,
    409: _problem("Its state doesn't allow that."),
}
# Marks the calls that submit work, which may be refused with 429; ``openapi_extra`` of a route.
LIMITED: dict[str, Any] = {"x-rate-limited": True}
KEY_REUSED: dict[int | str, dict[str, Any]] = {
    409: _problem("The `Idempotency-Key` was used for another request."),
}
PICTURE: dict[str, Any] = {"image/*": {"schema": {"type": "string", "format": "binary"}}}
SSE: dict[int | str, dict[str, Any]] = {
    200: {"content": {"text/event-stream": {"schema": {"type": "string"}}}},
    204: {"description": "Its end has been told already: don't connect again."},
}


def static_folder() -> Path | None:
    """Where the pages' scripts and styles are installed; None: browsers fetch them elsewhere."""
    package = find_spec("fastapi_offline")
    if package is None or not package.submodule_search_locations:
        return None
    folder = Path(package.submodule_search_locations[0]) / "static"
    return folder if folder.is_dir() else None


def install_pages(app: FastAPI) -> None:
    """Serve /docs and /redoc for ``app``, which must have been made without them."""
    folder = static_folder()
    if folder is not None:
        app.mount(_STATIC, StaticFiles(directory=folder), name="docs-static")
    local = {
        "swagger_js_url": "swagger-ui-bundle.js",
        "swagger_css_url": "swagger-ui.css",
        "swagger_favicon_url": "favicon.png",
    }

    def addresses(request: Request, names: dict[str, str]) -> dict[str, Any]:
        if folder is None:
            return {}
        root = request.scope.get("root_path", "")
        return {key: f"{root}{_STATIC}/{name}" for key, name in names.items()}

    def document(request: Request) -> str:
        return f"{request.scope.get('root_path', '')}/openapi.json"

    @app.get("/docs", include_in_schema=False)
    async def swagger(request: Request) -> HTMLResponse:
        return get_swagger_ui_html(
            openapi_url=document(request),
            title=f"{app.title}: try it",
            oauth2_redirect_url=f"{request.scope.get('root_path', '')}{_OAUTH}",
            swagger_ui_parameters={
                "displayRequestDuration": True,
                "tryItOutEnabled": True,
                "docExpansion": "list",
            },
            **addresses(request, local),
        )

    @app.get(_OAUTH, include_in_schema=False)
    async def oauth2_redirect() -> HTMLResponse:
        return get_swagger_ui_oauth2_redirect_html()

    @app.get("/redoc", include_in_schema=False)
    async def redoc(request: Request) -> HTMLResponse:
        names = {"redoc_js_url": "redoc.standalone.js", "redoc_favicon_url": "favicon.png"}
        return get_redoc_html(
            openapi_url=document(request),
            title=f"{app.title}: reference",
            with_google_fonts=False,
            **addresses(request, names),
        )
