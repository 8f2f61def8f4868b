"""The faces: HTTP, server-sent events and WebSocket over one service layer."""

from atelier.api.application import create_api, create_side_api

__all__ = ["create_api", "create_side_api"]
