"""/metrics, for Prometheus."""

from fastapi import APIRouter, Request
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
    async def metrics(request: Request) -> Response:
        """The text format, or OpenMetrics where `Accept` asks for it."""
        accept = request.headers.get("accept", "")
        body, media_type = await services.watching.metrics(accept)
        return Response(body, headers={"content-type": media_type})

    return router
