"""/v1/stats."""

from fastapi import APIRouter
from fastapi.responses import Response

from atelier.api.documents import PROBLEMS
from atelier.api.json import Json
from atelier.api.native.models import StatsModel
from atelier.api.native.render import stats_json
from atelier.service import Services


def state_router(services: Services) -> APIRouter:
    router = APIRouter(prefix="/v1", tags=["state"], responses=PROBLEMS)

    @router.get("/stats", response_model=StatsModel, summary="Counts, rates and times")
    async def get_stats() -> Response:
        return Json(stats_json(await services.overview.stats()))

    return router
