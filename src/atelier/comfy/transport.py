"""HTTP to one ComfyUI: addresses, time-outs, and errors translated once."""

import errno
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any, NoReturn
from urllib.parse import urlsplit, urlunsplit

import aiohttp

from atelier.comfy.protocol import parse_json
from atelier.errors import InstanceError


class InstanceUnreachable(InstanceError):
    """An instance did not answer. A request that changes something may have arrived all the same,
    unless ``data["never_sent"]`` is true.
    """

    code = "INSTANCE_UNREACHABLE"
    default_hint = "Check that ComfyUI runs, and that its address can be reached from here."


class FileMissing(InstanceError):
    """An instance no longer has a file that it made."""

    code = "INSTANCE_FILE_MISSING"


class FileTooLarge(InstanceError):
    """A file of an instance is larger than we take."""

    code = "INSTANCE_FILE_TOO_LARGE"
    retryable = False


def shown_url(url: str) -> str:
    """``url`` without the name and password that it may carry: how it is told to anybody."""
    parts = urlsplit(url)
    return urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2]))


class Transport:
    """Requests to one instance.

    ``last_contact`` is the monotonic second of the last sign of life, on any connection;
    ``refused_since`` is set while its port refuses connections: no process listens there.
    ``refusals`` counts how often that, or a proxy with nobody behind it, was met.
    """

    def __init__(
        self, url: str, session: aiohttp.ClientSession, *, connect_timeout_seconds: float
    ) -> None:
        self.url = url.rstrip("/")
        self.shown_url = shown_url(self.url)
        self.session = session
        self.connect_timeout_seconds = connect_timeout_seconds
        self.last_contact = time.monotonic()
        self.refused_since: float | None = None
        self.refusals = 0
        self.last_error: str | None = None

    def alive(self) -> None:
        """Note that the instance has just been heard."""
        self.last_contact = time.monotonic()
        self.refused_since = None

    def failed(self, error: BaseException) -> InstanceUnreachable:
        """Return the error that says so, having noted it."""
        silent = "no answer in time" if isinstance(error, TimeoutError) else "the connection broke"
        self.last_error = f"{type(error).__name__}: {str(error) or silent}"
        connect_failed = isinstance(error, aiohttp.ClientConnectorError)
        if _refused(error):
            self.refusals += 1
            self.refused_since = self.refused_since or time.monotonic()
        return InstanceUnreachable(
            f"{self.shown_url} can't be reached ({self.last_error}).",
            url=self.shown_url,
            never_sent=connect_failed,
        )

    @asynccontextmanager
    async def request(
        self,
        method: str,
        path: str,
        *,
        timeout_seconds: float | None = 30,
        params: Mapping[str, str] | None = None,
        data: Any = None,
        json_body: bytes | None = None,
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        """Yield the answer, whatever its status. Raises InstanceUnreachable.

        With ``timeout_seconds`` None only silence is bounded (30 s), for transfers of any size.
        """
        timeout = aiohttp.ClientTimeout(
            total=timeout_seconds, sock_connect=self.connect_timeout_seconds, sock_read=30
        )
        headers = None if json_body is None else {"Content-Type": "application/json"}
        try:
            async with self.session.request(
                method,
                self.url + path,
                params=params,
                data=data if json_body is None else json_body,
                headers=headers,
                timeout=timeout,
                allow_redirects=False,
            ) as response:
                # A proxy that answers for an instance is no sign of the instance's life.
                if response.status not in (502, 503, 504):
                    self.alive()
                    yield response
                    return
                self.refusals += 1
                raise InstanceUnreachable(
                    f"{self.shown_url} can't be reached (its proxy answers {response.status}).",
                    url=self.shown_url,
                )
        except (aiohttp.ClientError, OSError) as error:
            raise self.failed(error) from error

    async def get_json(
        self, path: str, *, timeout_seconds: float = 30, params: Mapping[str, str] | None = None
    ) -> Any:
        """Return the body. Raises InstanceUnreachable, ProtocolError, InstanceError."""
        async with self.request(
            "GET", path, timeout_seconds=timeout_seconds, params=params
        ) as response:
            body = await response.read()
        if response.status != 200:
            self.refuse(path, response.status, body)
        return parse_json(body)

    async def post(self, path: str, body: bytes, *, timeout_seconds: float = 30) -> None:
        """Send JSON to a path that answers with a bare 200."""
        async with self.request(
            "POST", path, json_body=body, timeout_seconds=timeout_seconds
        ) as response:
            answer = await response.read()
        if response.status != 200:
            self.refuse(path, response.status, answer)

    def refuse(self, path: str, status: int, body: bytes) -> NoReturn:
        """Raise the InstanceError for an answer that ComfyUI should not give."""
        raise InstanceError(
            f"{self.shown_url}{path} answered {status}.",
            hint="ComfyUI's own log says why.",
            url=self.shown_url,
            status=status,
            body=body[:500].decode(errors="replace"),
        )


def _refused(error: BaseException) -> bool:
    if not isinstance(error, aiohttp.ClientConnectorError):
        return False
    return error.os_error.errno == errno.ECONNREFUSED
