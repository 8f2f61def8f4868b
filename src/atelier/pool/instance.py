"""One ComfyUI instance as the pool sees it: alive or not, what it has, how it answered last."""

import asyncio
import contextlib
import random
import time
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Any, Literal, Self
from urllib.parse import urlsplit

import structlog

from atelier.comfy.client import ComfyClient
from atelier.comfy.object_info import ObjectInfo
from atelier.errors import AtelierError

log = structlog.get_logger(__name__)

PROBE_SECONDS = 4.0  # a dead process shows on the WebSocket at once; this finds a frozen one
PROBE_TIMEOUT_SECONDS = 8.0  # together under the 15 s in which a frozen instance must be noticed
STATISTICS_SECONDS = 600.0  # a line in the log so often, and one at the end
REFRESH_SECONDS = 300.0  # new models or nodes appear without a restart


def instance_id(url: str) -> str:
    """``host:port/path`` of an instance: how jobs, logs and callers name it."""
    parts = urlsplit(url)
    return f"{parts.netloc.rpartition('@')[2]}{parts.path.rstrip('/')}"


class Instance:
    """Keeps one ``ComfyClient`` connected and its capabilities fresh.

    ``on_change`` is called when the instance goes up or down or its capabilities change.
    """

    def __init__(
        self,
        url: str,
        client_id: str,
        *,
        id: str | None = None,
        embedded: bool = False,
        explain: Callable[[], str | None] = lambda: None,
        on_change: Callable[[], None] = lambda: None,
    ) -> None:
        self.url = url
        self.id = id or instance_id(url)
        self.embedded = embedded
        self.client = ComfyClient(url, client_id)
        self.object_info: ObjectInfo | None = None
        self.system: Mapping[str, Any] = {}
        self.latency_ms: float | None = None
        self.last_error: str | None = None
        self.running: dict[str, str] = {}  # job id -> prompt id, while they are at the instance
        self.served = 0  # runs that came to an end there, well or not
        self._answering = False
        self._told_up = False
        self._refreshed_at = 0.0
        self._connections_seen = 0
        self._statistics_at = time.monotonic()
        self._explain = explain
        self._on_change = on_change
        self._probing: asyncio.Task[None] | None = None
        self._look_again = asyncio.Event()

    @property
    def up(self) -> bool:
        """True while it answers and we know what it can run."""
        return self._answering and self.client.connected and self.object_info is not None

    @property
    def state(self) -> Literal["up", "down"]:
        return "up" if self.up else "down"

    def has_work(self) -> bool:
        """True while a job of this process is there."""
        return bool(self.running)

    async def __aenter__(self) -> Self:
        await self.client.__aenter__()
        self._probing = asyncio.create_task(self._probe_forever(), name=f"probe {self.id}")
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._probing is not None:
            self._probing.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._probing
            self._log_statistics()
        await self.client.__aexit__(kind, error, traceback)

    async def refresh(self) -> ObjectInfo:
        """Fetch object_info anew, e.g. after the instance refused what we thought it has."""
        info = await self.client.object_info()
        changed = self.object_info is None or info.revision != self.object_info.revision
        self.object_info = info
        self._refreshed_at = time.monotonic()
        if changed:
            self._on_change()
        return info

    def suspect(self) -> None:
        """Probe now instead of at the next turn; somebody saw it fail."""
        self._look_again.set()

    async def _probe_forever(self) -> None:
        while True:
            await self._probe()
            if not self.up:
                # Who keeps its process knows more than that nobody listens.
                self.last_error = self._explain() or self.last_error
            # Compared with what was told last, since the WebSocket comes and goes between probes.
            if self.up != self._told_up:
                self._told_up = self.up
                log.info(
                    "instance is up" if self.up else "instance is down",
                    instance=self.id,
                    reason=None if self.up else self.last_error,
                )
                self._on_change()
            if time.monotonic() - self._statistics_at > STATISTICS_SECONDS:
                self._log_statistics()
            # Many API and worker processes probe the same instance: don't do it in step.
            pause = (PROBE_SECONDS if self.up else 1.0) * random.uniform(0.8, 1.2)
            self._look_again.clear()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(
                    self._wait_for_news(was_connected=self.client.connected), pause
                )

    def _log_statistics(self) -> None:
        self._statistics_at = time.monotonic()
        log.info(
            "connection statistics",
            instance=self.id,
            connections=self.client.connections,
            messages=self.client.messages,
            jobs_served=self.served,
            latency_ms=None if self.latency_ms is None else round(self.latency_ms, 1),
        )

    async def _wait_for_news(self, *, was_connected: bool) -> None:
        if not was_connected:
            await self.client.connected_event.wait()
        else:
            await self._look_again.wait()

    async def _probe(self) -> None:
        started = time.monotonic()
        try:
            async with asyncio.timeout(PROBE_TIMEOUT_SECONDS):
                self.system = await self.client.system_stats()
                self.latency_ms = (time.monotonic() - started) * 1000
                reconnected = self.client.connections != self._connections_seen
                stale = time.monotonic() - self._refreshed_at > REFRESH_SECONDS
                if self.object_info is None or reconnected or stale:
                    await self.refresh()
                    self._connections_seen = self.client.connections
                self._answering = True
                self.last_error = None if self.client.connected else self.client.last_error
        except TimeoutError:
            self._answering = False
            self.last_error = f"no answer within {PROBE_TIMEOUT_SECONDS:.0f} s"
        except AtelierError as error:
            self._answering = False
            self.last_error = error.message
        except Exception as error:
            # An instance that answers oddly must not end the probing of it.
            log.exception("probing failed in a way nobody foresaw", instance=self.id)
            self._answering = False
            self.last_error = f"{type(error).__name__}: {error}"
