"""Reaching a service: the one that runs, else one that is started for a single command."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import orjson
from rich.console import Console

from atelier.app import application, listen, serving
from atelier.errors import InvalidRequest
from atelier.settings import Settings

CONNECT_SECONDS = 3.0


class ServiceRefused(InvalidRequest):
    code = "REFUSED"


class InputMalformed(InvalidRequest):
    code = "INPUT_MALFORMED"
    default_hint = "Write --input NAME=VALUE, e.g. --input image=photo.png --input style=clay."


@asynccontextmanager
async def reached(
    settings: Settings, console: Console, *, worker: bool = False, embedded: bool = False
) -> AsyncIterator[aiohttp.ClientSession]:
    """A session with a service that answers: a running one, else one for this command alone.

    ``worker`` and ``embedded`` say what the latter needs. Raises ServiceRefused where
    ATELIER_URL names a service that doesn't answer.
    """
    timeout = aiohttp.ClientTimeout(total=None, connect=CONNECT_SECONDS, sock_read=60)
    running = settings.server_url or f"http://127.0.0.1:{settings.port}"
    if await _is_atelier(running):
        async with aiohttp.ClientSession(running, timeout=timeout) as session:
            yield session
        return
    if settings.server_url is not None:
        raise ServiceRefused(
            f"No atelier answers at {running}.",
            hint="Start it there, or leave ATELIER_URL out to do it here.",
        )
    with console.status("starting …"):
        listener = listen("127.0.0.1", 0)
        base = f"http://127.0.0.1:{listener.getsockname()[1]}"
        context = application(settings, worker=worker, embedded=embedded)
        app = await context.__aenter__()
    try:
        async with (
            serving(app, listener),
            aiohttp.ClientSession(base, timeout=timeout) as session,
        ):
            yield session
    finally:
        await context.__aexit__(None, None, None)


async def _is_atelier(base: str) -> bool:
    try:
        async with (
            aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=CONNECT_SECONDS)) as session,
            session.get(f"{base.rstrip('/')}/health") as response,
        ):
            body = await response.json(content_type=None)
            return isinstance(body, dict) and "instances" in body
    except (aiohttp.ClientError, TimeoutError, OSError, ValueError):
        return False


async def answer(response: aiohttp.ClientResponse) -> Any:
    """The answer's body; raises ServiceRefused with what the service has to say."""
    body = orjson.loads(await response.read() or b"null")
    if response.status >= 400:
        problem = body if isinstance(body, dict) else {}
        raise ServiceRefused(
            str(problem.get("detail") or f"The service answered {response.status}."),
            hint=problem.get("hint") or "",
        )
    return body


def read_json(path: Path) -> Any:
    """The content of a file; raises InputMalformed."""
    try:
        return orjson.loads(path.read_bytes())
    except OSError as error:
        raise InputMalformed(f"{path} can't be read: {error.strerror}.", hint="") from None
    except orjson.JSONDecodeError as error:
        raise InputMalformed(f"{path} is not JSON: {error}.", hint="") from None
