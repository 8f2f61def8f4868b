"""Errors as RFC 9457 problem documents: the one table from code to status, and the handlers.

A problem has ``type``, ``title``, ``status``, ``detail``, ``instance`` of the RFC, and besides
``code`` (stable), ``hint`` (what to do), ``retryable``, ``errors`` (which field, in words) and
``data`` (details of this code).
"""

from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import Response
from fastapi.routing import APIRoute
from starlette.exceptions import HTTPException
from starlette.routing import Match

from atelier.api.fields import FieldError, field_errors, sentence
from atelier.api.json import encode
from atelier.errors import AtelierError

MEDIA_TYPE = "application/problem+json"
RETRY_AFTER_SECONDS = 5
PASSING_STATUSES = (429, 503)  # answered with Retry-After

# A code that isn't here has the status of the nearest class above its own that is.
STATUSES: Mapping[str, int] = {
    "INVALID_REQUEST": 422,
    "BODY_NOT_JSON": 422,
    "NOT_FOUND": 404,
    "ROUTE_NOT_FOUND": 404,
    "METHOD_NOT_ALLOWED": 405,
    "BODY_TOO_LARGE": 413,
    "BAD_REQUEST": 400,
    "CONFLICT": 409,
    "UNAVAILABLE": 503,
    "LIMIT_REACHED": 429,
    "RATE_LIMITED": 429,
    "MEDIA_REJECTED": 422,
    "UPLOAD_TOO_LARGE": 413,
    "MEDIA_UNAVAILABLE": 502,
    "WORKFLOW_ERROR": 422,
    "INSTANCE_ERROR": 502,
    "STORAGE_ERROR": 503,
    "CONFIGURATION_ERROR": 500,
    "INTERNAL_ERROR": 500,
}
_CODES_OF_HTTP = {
    404: "ROUTE_NOT_FOUND",
    405: "METHOD_NOT_ALLOWED",
    413: "BODY_TOO_LARGE",
    422: "INVALID_REQUEST",
}
_HINTS_OF_HTTP = {
    404: "/docs lists every address of this service.",
    405: "The header Allow lists the methods that this address knows.",
    413: "Send a smaller body, or upload the picture with POST /v1/assets and name its id.",
}
# Renders a problem at a path, with further headers.
Respond = Callable[["Problem", str, Mapping[str, str] | None], Response]

_METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE")
NOT_JSON_HINT = "Send a JSON object and the header Content-Type: application/json."


@dataclass(frozen=True, slots=True)
class Problem:
    code: str
    status: int
    detail: str
    hint: str | None = None
    errors: tuple[FieldError, ...] = ()
    data: Mapping[str, Any] = field(default_factory=dict)
    retryable: bool = False

    def as_dict(self, instance: str | None = None) -> dict[str, Any]:
        document: dict[str, Any] = {
            "type": f"urn:atelier:problem:{self.code}",
            "title": self.code.replace("_", " ").capitalize(),
            "status": self.status,
            "code": self.code,
            "detail": self.detail,
            "hint": self.hint,
            "retryable": self.retryable,
        }
        if instance is not None:
            document["instance"] = instance
        if self.errors:
            document["errors"] = [error.as_dict() for error in self.errors]
        if self.data:
            document["data"] = dict(self.data)
        return document


class Refused(Exception):
    """A request that a dialect refuses in its own words."""

    def __init__(self, problem: Problem) -> None:
        super().__init__(problem.detail)
        self.problem = problem


def invalid(*errors: FieldError, hint: str | None = None) -> Problem:
    """INVALID_REQUEST with these fields."""
    return Problem("INVALID_REQUEST", 422, sentence(errors), hint, errors)


def status_of(error: type[AtelierError]) -> int:
    for kind in error.__mro__:
        status = STATUSES.get(getattr(kind, "code", ""))
        if status is not None:
            return status
    return 500


def problem_of(
    error: AtelierError, *, names: Mapping[str, str] | None = None, prefix: str = ""
) -> Problem:
    """Render a domain error; ``names`` and ``prefix`` turn inputs into the dialect's fields.

    An input that ``names`` lacks keeps its own name behind ``prefix``.
    """
    data = {key: value for key, value in error.data.items() if key != "problems"}
    errors = tuple(
        FieldError(
            (names or {}).get(str(one["input"])) or f"{prefix}{one['input']}",
            str(one.get("problem") or one.get("message") or "is invalid"),
            one.get("allowed"),
        )
        for one in error.data.get("problems", ())
        if isinstance(one, Mapping) and "input" in one
    )
    name = error.data.get("field")
    if not errors and isinstance(name, str):
        about = error.message.removeprefix(f"{name} ").rstrip(".")
        errors = (FieldError((names or {}).get(name, name), about),)
    if not errors and "problems" in error.data:
        data["problems"] = error.data["problems"]
    return Problem(
        code=error.code,
        status=status_of(type(error)),
        detail=sentence(errors) if errors else error.message,
        hint=error.hint or None,
        errors=errors,
        data=data,
        retryable=error.retryable,
    )


def retry_after(problem: Problem) -> str:
    """The header's value in seconds: what the error knows, or a guess."""
    return str(problem.data.get("retry_after_seconds", RETRY_AFTER_SECONDS))


def problem_response(
    problem: Problem, instance: str | None = None, headers: Mapping[str, str] | None = None
) -> Response:
    extra = dict(headers or {})
    if problem.status in PASSING_STATUSES:
        extra.setdefault("Retry-After", retry_after(problem))
    # Some details come from a stranger's graph or a vendor's message: never a second failure.
    body = encode(problem.as_dict(instance))
    return Response(body, problem.status, extra, MEDIA_TYPE)


def internal_error() -> Problem:
    return Problem(
        "INTERNAL_ERROR",
        500,
        "Something went wrong on our side.",
        "It has been recorded in the service's log.",
        retryable=True,
    )


def problem_of_http(error: HTTPException) -> Problem:
    """Render what the framework itself refuses."""
    if error.status_code == 400 and isinstance(error.__cause__, ValueError | RecursionError):
        return Problem("BODY_NOT_JSON", 422, "The body isn't JSON.", NOT_JSON_HINT)
    status = error.status_code
    code = _CODES_OF_HTTP.get(status, "BAD_REQUEST" if status < 500 else "INTERNAL_ERROR")
    phrase = HTTPStatus(status).phrase
    detail = {
        404: "There is nothing at this address.",
        405: "This address doesn't know that method.",
    }.get(status, error.detail if error.detail != phrase else f"{phrase}.")
    return Problem(code, status, detail, _HINTS_OF_HTTP.get(status))


def problem_of_validation(error: RequestValidationError, endpoint: Any) -> Problem:
    """Name every wrong field in words, or say that the body is no JSON object at all."""
    errors = error.errors()
    for one in errors:
        if one["type"] == "json_invalid":
            where = f" (at character {one['loc'][-1]}: {one.get('ctx', {}).get('error')})"
            return Problem("BODY_NOT_JSON", 422, f"The body isn't JSON{where}.", NOT_JSON_HINT)
        whole = tuple(one["loc"]) == ("body",)
        if whole and (one["type"] == "missing" or isinstance(one.get("input"), bytes)):
            empty = one["type"] == "missing"
            detail = "The body is empty." if empty else "The body wasn't sent as JSON."
            return Problem("BODY_NOT_JSON", 422, detail, NOT_JSON_HINT)
    return invalid(*field_errors(errors, endpoint))


def dialect_route(render: Callable[[Problem, str], Response]) -> type[APIRoute]:
    """Routes whose errors are answered by ``render(problem, path)``: a dialect's own shape.

    For ``APIRouter(route_class=...)``. What happens outside of a route is for ``shapes.py``.
    """

    class DialectRoute(APIRoute):
        def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
            handle = super().get_route_handler()

            async def answer(request: Request) -> Response:
                try:
                    return await handle(request)
                except Refused as error:
                    problem = error.problem
                except AtelierError as error:
                    problem = problem_of(error)
                except RequestValidationError as error:
                    problem = problem_of_validation(error, self.endpoint)
                except HTTPException as error:
                    problem = problem_of_http(error)
                response = render(problem, request.url.path)
                if problem.status in PASSING_STATUSES:
                    response.headers.setdefault("Retry-After", retry_after(problem))
                return response

            return answer

    return DialectRoute


def _methods_here(request: Request) -> list[str]:
    """All methods of this address: the framework names those of the first route only."""
    return [
        method
        for method in _METHODS
        if any(
            route.matches({**request.scope, "method": method})[0] is Match.FULL
            for route in request.app.routes
        )
    ]


def install(app: FastAPI, respond: Respond) -> None:
    """Let ``app`` answer every error that no route answered by itself, through ``respond``."""

    async def refused(request: Request, error: Exception) -> Response:
        assert isinstance(error, Refused)
        return respond(error.problem, request.url.path, None)

    async def domain(request: Request, error: Exception) -> Response:
        assert isinstance(error, AtelierError)
        return respond(problem_of(error), request.url.path, None)

    async def http(request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        headers = dict(error.headers or {})
        if error.status_code == 405:
            headers["Allow"] = ", ".join(_methods_here(request))
        return respond(problem_of_http(error), request.url.path, headers)

    async def validation(request: Request, error: Exception) -> Response:
        assert isinstance(error, RequestValidationError)
        problem = problem_of_validation(error, request.scope.get("endpoint"))
        return respond(problem, request.url.path, None)

    app.add_exception_handler(Refused, refused)
    app.add_exception_handler(AtelierError, domain)
    app.add_exception_handler(HTTPException, http)
    app.add_exception_handler(RequestValidationError, validation)
