"""Around every request: one log line, a limit to the body, and an answer to what nobody caught."""

import time
from collections.abc import Callable

import structlog
from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from atelier.api.fields import FieldError
from atelier.api.problems import Problem, internal_error, invalid
from atelier.api.shapes import Shapes
from atelier.api.tracing import route_of
from atelier.telemetry import metrics

# PostgreSQL refuses to look for either.
_NUL_IN_PATH = Problem("ROUTE_NOT_FOUND", 404, "An address has no NUL characters.")
_NUL_IN_QUERY = invalid(FieldError("query", "must not contain NUL characters"))

log = structlog.get_logger("atelier.api")


class RequestLog:
    """Logs method, path, status and duration; what nobody caught becomes a 500, with its trace."""

    def __init__(
        self, app: ASGIApp, *, shapes: Shapes, clock: Callable[[], float] = time.perf_counter
    ) -> None:
        self._app = app
        self._shapes = shapes
        self._clock = clock

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        started = self._clock()
        status: int | None = None

        async def watched(message: Message) -> None:
            nonlocal status
            if message["type"] in ("http.response.start", "websocket.http.response.start"):
                status = message["status"]
            elif message["type"] == "websocket.accept":
                status = 101
            await send(message)

        try:
            if (refusal := _nul(scope)) is not None:
                await self._shapes.response(refusal, scope["path"])(scope, receive, watched)
                return
            await self._app(scope, receive, watched)
        except ClientDisconnect:
            status = 499  # nginx's number for a client that left before the answer
        except Exception:
            log.exception("unhandled", method=scope.get("method"), path=scope["path"])
            if status is None and scope["type"] == "http":
                status = 500
                response = self._shapes.response(internal_error(), scope["path"])
                await response(scope, receive, send)
            elif scope["type"] == "websocket":
                # 1011: the server met a condition that it didn't expect.
                await send({"type": "websocket.close", "code": 1011})
        finally:
            seconds = self._clock() - started
            if scope["type"] == "http":
                metrics.request_ended(scope["method"], route_of(scope), status, seconds)
            log.info(
                "request",
                method=scope.get("method", "WS"),
                path=scope["path"],
                status=status,
                milliseconds=round(seconds * 1000, 1),
            )


def _nul(scope: Scope) -> Problem | None:
    if "\0" in scope["path"]:
        return _NUL_IN_PATH
    return _NUL_IN_QUERY if b"%00" in scope["query_string"] else None


class BodyLimit:
    """Refuses a body of more than ``max_bytes``, told or counted, before it is in memory."""

    def __init__(self, app: ASGIApp, *, max_bytes: int) -> None:
        self._app = app
        self._max_bytes = max_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        told = Headers(scope=scope).get("content-length", "")
        too_large = told.isascii() and told.isdigit() and int(told[:20]) > self._max_bytes
        read = 0

        async def limited() -> Message:
            nonlocal read
            if too_large:
                raise self._refusal()
            message = await receive()
            if message["type"] == "http.request":
                read += len(message.get("body", b""))
                if read > self._max_bytes:
                    raise self._refusal()
            return message

        await self._app(scope, limited, send)

    def _refusal(self) -> HTTPException:
        megabytes = self._max_bytes / 1_000_000
        return HTTPException(413, f"The body is larger than {megabytes:g} MB.")
