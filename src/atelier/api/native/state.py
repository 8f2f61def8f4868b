"""/v1/workers and /v1/stats."""

from fastapi import APIRouter
from fastapi.responses import Response

from atelier.api.documents import PROBLEMS
from atelier.api.json import Json
from atelier.api.native.models import StatsModel, WorkerListModel
from atelier.api.native.render import stats_json, worker_json
from atelier.service import Services


def state_router(services: Services) -> APIRouter:
    router = APIRouter(prefix="/v1", tags=["state"], responses=PROBLEMS)

    @router.get("/workers", response_model=WorkerListModel, summary="List API and worker processes")
    async def list_workers() -> Response:
        """Those that share the database; who has been silent for an hour is forgotten."""
        processes = await services.presence.processes()
        return Json({"workers": [worker_json(one) for one in processes]})

    @router.get("/stats", response_model=StatsModel, summary="Counts, rates and times")
    async def get_stats() -> Response:
        return Json(stats_json(await services.overview.stats()))

    return router
