"""The workflow service dialect: whole ComfyUI graphs over /api/v1 and one WebSocket."""

from atelier.api.workflow_service.routes import workflow_service_router

__all__ = ["workflow_service_router"]
