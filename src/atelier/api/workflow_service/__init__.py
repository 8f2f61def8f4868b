"""The workflow service dialect: whole ComfyUI graphs over /api/v1 and one WebSocket."""

from atelier.api.workflow_service.routes import WORKFLOW_SERVICE_SHAPES, workflow_service_router

__all__ = ["WORKFLOW_SERVICE_SHAPES", "workflow_service_router"]
