"""The style-transform dialect, /api/v1: tasks for the back end of an app."""

from atelier.api.transform.routes import transform_router

__all__ = ["transform_router"]
