"""The application: every dialect on one set of services."""

import asyncio
from collections.abc import Mapping
from typing import Any

from fastapi import FastAPI
from fastapi.responses import Response
from starlette.middleware import Middleware

from atelier.api import problems
from atelier.api.documents import install_pages
from atelier.api.health import health_router
from atelier.api.json import Json
from atelier.api.limits import RateLimitHeaders
from atelier.api.metrics import metrics_router
from atelier.api.middleware import BodyLimit, RequestLog
from atelier.api.native import native_router
from atelier.api.openapi import document
from atelier.api.shapes import Shapes
from atelier.api.streams import OpenStreams
from atelier.api.studio import studio_router
from atelier.api.tasks import TASKS_SHAPES, tasks_router
from atelier.api.tracing import Traced
from atelier.api.transform import transform_router
from atelier.api.workflow_service import WORKFLOW_SERVICE_SHAPES, workflow_service_router
from atelier.service import Services

# A batch of pictures as data: URLs, or a form with several photos.
MAX_BODY_BYTES = 100_000_000

_DESCRIPTION = """
The production front of ComfyUI: hand in work, get pictures back.

**jobs**, **workflows**, **assets** and **events** are the native API; **transform** is the
dialect of tasks for apps, **tasks** that of any workflow as a task, **studio** that of designers,
**workflow service** the one of whole graphs. Every error has a stable `code`, in a problem document
(RFC 9457) or in its dialect's own shape.
The examples work when you press *Execute*: they carry a real photo with them.
"""
_TAGS: list[dict[str, Any]] = [
    {"name": "jobs", "description": "Submit work, look at it, wait, cancel, try again."},
    {"name": "workflows", "description": "What can be run, each with its own typed inputs."},
    {"name": "assets", "description": "Pictures that you bring and that jobs make."},
    {"name": "events", "description": "What happens, as it happens; also WebSocket /v1/events."},
    {"name": "transform", "description": "Style transform: tasks by user id and picture URL."},
    {"name": "tasks", "description": "Workflows as tasks: create, poll, listen, be told."},
    {"name": "studio", "description": "Generations for designers: no graph, no node, one job."},
    {
        "name": "workflow service",
        "description": "ComfyUI's abilities: graphs, history, files; also WebSocket "
        "/api/v1/ws/{client_id}.",
    },
    {"name": "state", "description": "Health, instances and figures."},
]


def create_api(
    services: Services,
    *,
    title: str = "atelier",
    version: str = "0.1.0",
    public_url: str | None = None,
    max_body_bytes: int = MAX_BODY_BYTES,
    environment: str = "production",
    shutting_down: asyncio.Event | None = None,
) -> FastAPI:
    """The ASGI application. Set ``shutting_down`` to end the open event streams.

    ``public_url`` is where callers reach the service, for absolute addresses; without it the
    address of each request is used. ``environment`` is the name of this deployment.
    """
    shapes = Shapes((*TASKS_SHAPES, *WORKFLOW_SERVICE_SHAPES))
    app = FastAPI(
        title=title,
        version=version,
        description=_DESCRIPTION,
        openapi_tags=_TAGS,
        openapi_url=None,
        docs_url=None,
        redoc_url=None,
        middleware=[
            Middleware(Traced),
            Middleware(RequestLog, shapes=shapes),
            Middleware(RateLimitHeaders),
            Middleware(BodyLimit, max_bytes=max_body_bytes),
        ],
    )
    streams = OpenStreams(shutting_down)
    problems.install(app, shapes.response)
    install_pages(app)
    app.include_router(health_router(services, title, version))
    app.include_router(metrics_router(services))
    app.include_router(native_router(services, streams))
    app.include_router(transform_router(services, streams, public_url=public_url))
    app.include_router(
        tasks_router(
            services, streams, public_url=public_url, environment=environment, version=version
        )
    )
    app.include_router(studio_router(services))
    app.include_router(workflow_service_router(services, streams, public_url=public_url))
    _serve_openapi(app, services)
    return app


def create_side_api(services: Services, *, title: str, version: str) -> FastAPI:
    """What a process tells of itself on a port of its own: /metrics, /live, /health, /ready."""
    app = FastAPI(title=title, version=version, openapi_url=None)
    app.include_router(health_router(services, title, version))
    app.include_router(metrics_router(services))
    return app


def _serve_openapi(app: FastAPI, services: Services) -> None:
    made: dict[tuple[str | int | None, ...], Mapping[str, Any]] = {}

    @app.get("/openapi.json", include_in_schema=False)
    async def openapi() -> Response:
        workflows = services.overview.workflows()
        # The examples are those of the variants that would run now.
        shown = tuple(one.variant for one in workflows)
        key = (services.overview.workflows_revision, *shown)
        if key not in made:
            made.clear()
            made[key] = document(app, workflows)
        return Json(made[key])
