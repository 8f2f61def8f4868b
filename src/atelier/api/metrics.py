"""/metrics, for Prometheus."""

from typing import Annotated

from fastapi import APIRouter, Header
from fastapi.responses import Response

from atelier.service import Services


def metrics_router(services: Services) -> APIRouter:
    router = APIRouter(tags=["state"])

    @router.get(
        "/metrics",
        response_class=Response,
        responses={200: {"content": {"text/plain": {"schema": {"type": "string"}}}}},
        summary="Figures for Prometheus",
    )
    async def metrics(accept: Annotated[str, Header()] = "") -> Response:
        """The text format, or OpenMetrics where `Accept` asks for it."""
        body, media_type = await services.watching.metrics(accept)
        return Response(body, headers={"content-type": media_type})

    return router
