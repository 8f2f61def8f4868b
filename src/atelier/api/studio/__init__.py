"""The studio dialect, /api and /outputs: generations for designers who see no graph."""

from atelier.api.studio.routes import studio_router

__all__ = ["studio_router"]
