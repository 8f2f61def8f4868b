"""The native dialect, /v1."""

from atelier.api.native.routes import native_router

__all__ = ["native_router"]
