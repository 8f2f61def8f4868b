"""/health, /ready and the front page."""

from dataclasses import asdict
from typing import Any

from fastapi import APIRouter
from fastapi.responses import Response
from pydantic import BaseModel, Field

from atelier.api.json import Json
from atelier.service import Services


class HealthModel(BaseModel):
    """State of the service. `mysql` is the database, whichever it is."""

    status: str = Field(description="ok, degraded (it works, but not all of it) or unavailable.")
    message: str
    database: str = Field(description="`ok`, or a sentence.")
    mysql: str = Field(description="The same as `database`.")
    redis: str = Field(description="`ok`, `not configured`, or a sentence.")
    storage: str
    workflows: str = Field(description="`ok`, or a sentence on faulty workflow files.")
    waiting: int | None = Field(description="Jobs in the queue.")
    workers: int = Field(description="Jobs that this process runs now.")
    instances: list[dict[str, Any]]
    name: str
    version: str


class ReadyModel(BaseModel):
    ready: bool
    message: str


class LiveModel(BaseModel):
    live: bool


def health_router(services: Services, name: str, version: str) -> APIRouter:
    router = APIRouter(tags=["state"])

    @router.get(
        "/health",
        response_model=HealthModel,
        responses={503: {"model": HealthModel, "description": "The service can't work."}},
        summary="State of the service and of every ComfyUI instance",
    )
    async def health() -> Response:
        state = await services.overview.health()
        document = {
            "status": state.status,
            "message": state.message,
            "database": state.database,
            "mysql": state.database,
            "redis": state.redis,
            "storage": state.storage,
            "workflows": state.workflows,
            "waiting": state.waiting,
            "workers": state.workers,
            "instances": [asdict(instance) for instance in state.instances],
            "name": name,
            "version": version,
        }
        return Json(document, 200 if state.ok else 503)

    @router.get("/live", response_model=LiveModel, summary="Whether this process answers")
    async def live() -> Response:
        """Looks at nothing else: a restart of the process would not bring a database back."""
        return Json({"live": True})

    @router.get(
        "/ready",
        response_model=ReadyModel,
        responses={503: {"model": ReadyModel, "description": "Send requests elsewhere."}},
        summary="Whether requests are welcome",
    )
    async def ready() -> Response:
        state = await services.overview.health()
        document = {"ready": state.ok, "message": state.message}
        return Json(document, 200 if state.ok else 503)

    @router.get("/", include_in_schema=False)
    async def front() -> Response:
        return Json(
            {
                "name": name,
                "version": version,
                "docs": "/docs",
                "reference": "/redoc",
                "openapi": "/openapi.json",
                "health": "/health",
                "workflows": "/v1/workflows",
            }
        )

    return router
