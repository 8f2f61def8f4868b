"""/api/comfyui-... and /api/health, /api/status: instances, what they do, and stopping it."""

from fastapi import APIRouter
from fastapi.responses import Response

from atelier.api.json import Json
from atelier.api.tasks.documents import ERRORS, ERRORS_OF_STATE
from atelier.api.tasks.figures import (
    health_json,
    interrupted_json,
    queues_json,
    status_json,
    systems_json,
)
from atelier.api.tasks.models import (
    HealthModel,
    InterruptedModel,
    InterruptRequest,
    QueueStatusModel,
    StatusModel,
    SystemStatsModel,
)
from atelier.errors import Unavailable
from atelier.service import Services

_EVERYTHING = InterruptRequest()


def add_state(router: APIRouter, services: Services, *, environment: str, version: str) -> None:
    overview = services.overview

    @router.get(
        "/comfyui-queue-status",
        response_model=QueueStatusModel,
        responses=ERRORS,
        summary="What runs and waits at each instance, and here",
    )
    async def queue_status() -> Response:
        """Each instance is asked now; prompts that others submitted there are shown, too."""
        return Json(queues_json(await overview.queues()))

    @router.get(
        "/comfyui-system-stats",
        response_model=SystemStatsModel,
        responses=ERRORS,
        summary="RAM, VRAM, version and devices of each instance",
    )
    async def system_stats() -> Response:
        """Each instance is asked now; sizes are in bytes."""
        return Json(systems_json(await overview.systems()))

    @router.post(
        "/comfyui-interrupt",
        response_model=InterruptedModel,
        responses=ERRORS_OF_STATE,
        summary="Stop what is being generated",
    )
    async def interrupt(body: InterruptRequest = _EVERYTHING) -> Response:
        """One task, the tasks at one instance, or without a body all that run for us. What others
        submitted to an instance goes on."""
        ids = await services.generations.interrupt(
            job=body.task_id, prompt_id=body.prompt_id, instance=body.instance
        )
        return Json(interrupted_json(ids))

    @router.get(
        "/health",
        response_model=HealthModel,
        responses={503: {"model": HealthModel, "description": "The service can't work."}},
        summary="State of the service, in short",
    )
    async def health() -> Response:
        state = await overview.health()
        return Json(health_json(state), 200 if state.ok else 503)

    @router.get(
        "/status",
        response_model=StatusModel,
        responses={503: {"model": StatusModel, "description": "The service can't work."}},
        summary="State of the service, in detail",
    )
    async def status() -> Response:
        state = await overview.health()
        try:
            stats = await overview.stats()
        except Unavailable:
            stats = None
        document = status_json(state, stats, environment=environment, version=version)
        return Json(document, 200 if state.ok else 503)
