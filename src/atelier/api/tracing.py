"""A span around each request, below the caller's where it sent a traceparent."""

from collections.abc import MutableMapping
from typing import Any

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from atelier.telemetry import traces

UNMATCHED = "unmatched"


def route_of(scope: MutableMapping[str, Any]) -> str:
    """The route's template, such as ``/v1/jobs/{id}``; known once the request was routed."""
    return getattr(scope.get("route"), "path", UNMATCHED)


class Traced:
    """Only around HTTP: a WebSocket is open for as long as its caller likes."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or not traces.enabled():
            await self._app(scope, receive, send)
            return
        method = scope["method"]
        parent = Headers(scope=scope).get(traces.TRACEPARENT)
        with traces.span(
            method, kind="server", parent=parent, attributes={"http.request.method": method}
        ) as span:

            async def watched(message: Message) -> None:
                if message["type"] == "http.response.start":
                    span.set_attribute("http.response.status_code", message["status"])
                await send(message)

            try:
                await self._app(scope, receive, watched)
            finally:
                # Not the path: ids would make each a name of its own.
                span.update_name(f"{method} {route_of(scope)}")
                span.set_attribute("http.route", route_of(scope))
