"""How often work may be submitted, told with every answer to a submission.

The headers are those of the IETF's draft (draft-ietf-httpapi-ratelimit-headers): a policy is
``"user";q=60;w=60``, a state ``"user";r=59;t=1``.
"""

import math
from collections.abc import MutableMapping
from typing import Any

from starlette.datastructures import MutableHeaders
from starlette.requests import HTTPConnection
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from atelier.errors import Unavailable
from atelier.limits import Limiter, Verdict

NOBODY = "anonymous"  # what the dialects call a user who isn't named
_STATE = "rate_limits"


class TooManyRequests(Unavailable):
    """More was submitted than one may, or all may together; later it is welcome."""

    code = "RATE_LIMITED"
    default_hint = "Wait as long as the header Retry-After says, and send less at once."


class SubmissionLimits:
    """``limiter`` None: as often as anybody likes."""

    def __init__(self, limiter: Limiter | None = None) -> None:
        self._limiter = limiter

    async def admit(self, request: HTTPConnection, user: str | None, count: int = 1) -> None:
        """Count ``count`` submissions of ``user``, or of the client's address without a name.

        Raises TooManyRequests.
        """
        if self._limiter is None:
            return
        verdict = await self._limiter.take(_caller(request, user), max(count, 1))
        request.scope.setdefault("state", {})[_STATE] = verdict
        if verdict.retry_after_seconds is not None:
            seconds = math.ceil(verdict.retry_after_seconds)
            exhausted = min(verdict.states, key=lambda state: state.remaining).policy
            raise TooManyRequests(
                f"No more than {exhausted.quota} submissions a minute are taken"
                f"{' from one user' if exhausted.name == 'user' else ''}; "
                f"try again in {seconds} s.",
                limit=exhausted.quota,
                retry_after_seconds=seconds,
            )


def _caller(request: HTTPConnection, user: str | None) -> str:
    if user and user != NOBODY:
        return f"user:{user}"
    return f"address:{request.client.host if request.client else 'unknown'}"


class RateLimitHeaders:
    """Adds what is left of the quotas to the answers of calls that were counted."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        state: MutableMapping[str, Any] = scope.setdefault("state", {})

        async def with_headers(message: Message) -> None:
            verdict = state.get(_STATE)
            if message["type"] == "http.response.start" and verdict is not None:
                _add_headers(MutableHeaders(scope=message), verdict)
            await send(message)

        await self._app(scope, receive, with_headers)


def _add_headers(headers: MutableHeaders, verdict: Verdict) -> None:
    headers["RateLimit-Policy"] = ", ".join(
        f'"{state.policy.name}";q={state.policy.quota};w={state.policy.window_ms // 1000}'
        for state in verdict.states
    )
    headers["RateLimit"] = ", ".join(
        f'"{state.policy.name}";r={state.remaining};t={math.ceil(state.reset_seconds)}'
        for state in verdict.states
    )
    if verdict.retry_after_seconds is not None:
        headers["Retry-After"] = str(math.ceil(verdict.retry_after_seconds))
