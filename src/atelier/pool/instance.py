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

from atelier.comfy.client import ComfyClient, InstanceUnreachable
from atelier.comfy.object_info import ObjectInfo
from atelier.comfy.transport import shown_url
from atelier.errors import AtelierError
from atelier.pool.breaker import Circuit
from atelier.pool.report import Report
from atelier.pool.roster import Origin, Row, Wanted
from atelier.pool.usage import Usage

# Its own: the module's is seeded by who wants to repeat things.
_CHANCE = random.Random()

log = structlog.get_logger(__name__)

PROBE_SECONDS = 4.0  # a dead process shows on the WebSocket at once; this finds a frozen one
PROBE_TIMEOUT_SECONDS = 8.0  # together under the 15 s in which a frozen instance must be noticed
SHORTEST_PAUSE_SECONDS = 0.1  # however often somebody suspects it
STATISTICS_SECONDS = 600.0  # a line in the log so often, and one at the end
REFRESH_SECONDS = 300.0  # new models or nodes appear without a restart
NOBODY = "no worker serves it at the moment"


def instance_id(url: str) -> str:
    """``host:port/path`` of an instance: how jobs, logs and callers name it."""
    parts = urlsplit(url)
    return f"{parts.netloc.rpartition('@')[2]}{parts.path.rstrip('/')}"


class Instance:
    """``async with`` drives it: keeps one ``ComfyClient`` connected and its capabilities fresh.

    Not driven, it tells what its driver, another process, has reported (``recall``).
    ``on_change`` is called when the instance goes up or down or its capabilities change.
    """

    def __init__(
        self,
        url: str,
        client_id: str,
        *,
        id: str | None = None,
        embedded: bool = False,
        origin: Origin = "config",
        host: str | None = None,
        explain: Callable[[], str | None] = lambda: None,
        on_change: Callable[[], None] = lambda: None,
    ) -> None:
        self.url = url
        self.shown_url = shown_url(url)
        self.id = id or instance_id(url)
        self.client_id = client_id
        self.embedded = embedded
        self.origin: Origin = origin
        self.host = host
        self.is_near = True  # whether an address that means its host means it from here
        self.wanted: Wanted = "active"
        self.weight = 1.0
        self.tags: tuple[str, ...] = ()
        self.driver: str | None = None  # the worker that serves it, where somebody recorded that
        self.leaving = False  # served here until its runs have ended
        self.object_info: ObjectInfo | None = None
        self.system: Mapping[str, Any] = {}
        self.latency_ms: float | None = None
        self.last_error: str | None = None
        self.running: dict[str, str] = {}  # job id -> prompt id, while they are at the instance
        self.served = 0  # runs that came to an end there, well or not
        self.driven_since: float | None = None  # monotonic seconds
        self.usage = self._new_usage()
        self._told = Report()
        self._client: ComfyClient | None = None
        self._asking: ComfyClient | None = None
        self._refusals_seen = 0
        self._answering = False
        self._told_up = False
        self._refreshed_at = 0.0
        self._connections_seen = 0
        self._statistics_at = time.monotonic()
        self._explain = explain
        self._on_change = on_change
        self._probing: asyncio.Task[None] | None = None
        self._look_again = asyncio.Event()

    def _new_usage(self) -> Usage:
        return Usage(
            self.running,
            look_again=self.suspect,
            on_drop=self._note_drop,
            on_circuit=self._tell_circuit,
        )

    # -- what it is ----------------------------------------------------------------------------

    @property
    def driven(self) -> bool:
        """True while this process serves it."""
        return self._client is not None

    @property
    def client(self) -> ComfyClient:
        """The connection to it. Raises InstanceUnreachable while this process doesn't serve it."""
        if self._client is None:
            raise InstanceUnreachable(
                f"{self.id} is served by {self.driver or 'nobody'}, not by this process.",
                never_sent=True,
            )
        return self._client

    @property
    def up(self) -> bool:
        """True while it answers and we know what it can run."""
        if self._client is None:
            return self._told.up and self.object_info is not None
        return self._answering and self._client.connected and self.object_info is not None

    @property
    def state(self) -> Literal["up", "down", "draining"]:
        if not self.up:
            return "down"
        return "up" if self.wanted == "active" else "draining"

    @property
    def takes_jobs(self) -> bool:
        """Whether it may be given one more job by this process now."""
        wanted = self.wanted == "active" and not self.leaving
        return self.driven and wanted and self.up and self.usage.allows_one_more()

    @property
    def circuit(self) -> Circuit:
        return self.usage.circuit if self.driven else self._told.circuit

    @property
    def warm(self) -> frozenset[str]:
        """Model keys (see ``Job.model``) of what it has loaded, and the files among them."""
        if self.driven:
            return self.usage.warmth.warm
        return frozenset(self._told.warm).union(*(key.split("+") for key in self._told.warm))

    def switch_ms(self, model: str | None) -> float | None:
        """What loading ``model`` takes there, as measured; None before anything was loaded."""
        if self.driven:
            return self.usage.warmth.cost_ms(model)
        return self._told.switch_ms.get(model or "")

    def run_ms(self, workflow: str, variant: str | None) -> float | None:
        """What such jobs take there on average, without loading; None before the first."""
        return self.usage.work.run_ms(workflow, variant)

    def busy_until_ms(self, now_ms: int) -> int:
        """When all that is there or claimed for it will have run, in the time of ``now_ms``."""
        if self.driven:
            return now_ms + round(self.usage.free_in_ms())
        return max(now_ms, self._told.busy_until_ms or 0)

    def free_in_ms(self) -> float:
        """Until all that is there or claimed for it will have run, as far as is known here."""
        if self.driven:
            return self.usage.free_in_ms()
        return max((self._told.busy_until_ms or 0) - time.time() * 1000, 0.0)

    @property
    def queue_remaining(self) -> int | None:
        """Prompts that are there, as it or its driver told last; None while it is down."""
        if not self.up:
            return None
        return self._told.queue_remaining if self._client is None else self._client.queue_remaining

    @property
    def keeps(self) -> int:
        """How many models stay loaded beside each other there."""
        return self.usage.warmth.kept if self.driven else max(len(self._told.warm), 1)

    @property
    def devices(self) -> tuple[Mapping[str, Any], ...]:
        return tuple(self.system.get("devices") or ())

    # -- telling and being told ----------------------------------------------------------------

    def report(self, now_ms: int) -> Report:
        """How it stands; from a process that doesn't serve it, what it was told."""
        if self._client is None:
            return self._told
        usage = self.usage
        return Report(
            up=self.up,
            last_error=self.last_error,
            system=self.system,
            latency_ms=None if self.latency_ms is None else round(self.latency_ms, 1),
            queue_remaining=self.queue_remaining,
            foreign=usage.work.foreign,
            running=tuple(self.running),
            claimed=len(usage.work.jobs),
            busy_until_ms=self.busy_until_ms(now_ms) if usage.work.jobs else None,
            warm=usage.warmth.recent,
            switch_ms=dict(usage.warmth.switch_ms),
            speeds=usage.work.speeds,
            circuit=usage.circuit,
            served=self.served,
            connections=self._client.connections,
            messages=self._client.messages,
        )

    def recall(self, row: Row, info: ObjectInfo | None) -> bool:
        """Take over what the roster has; True if that changed what can be run where."""
        before = (self.up, self.wanted, self.object_info and self.object_info.revision)
        self.wanted, self.weight, self.tags = row.wanted, row.weight, row.tags
        self.driver, self.origin, self.host = row.driver, row.origin, row.host
        if not self.driven:
            told = row.report
            self.system, self.latency_ms, self.served = told.system, told.latency_ms, told.served
            self.running.clear()
            self.running.update(dict.fromkeys(told.running, ""))
            self.last_error = told.last_error if row.driver is not None else NOBODY
            self._told = told if row.driver is not None else _away(told)
            self.object_info = info or self.object_info
        return before != (self.up, self.wanted, self.object_info and self.object_info.revision)

    # -- driving -------------------------------------------------------------------------------

    def has_work(self) -> bool:
        """True while a job of this process is there."""
        return bool(self.running)

    async def __aenter__(self) -> Self:
        told = self._told
        self.running.clear()
        self.usage = self._new_usage()
        self.usage.restore(told)
        self.last_error, self._answering, self._told_up = None, False, False
        # What is recorded may be of long ago: asked for anew, but good for planning till then.
        self._connections_seen = self._refusals_seen = 0
        client = ComfyClient(self.url, self.client_id, observer=self.usage)
        await client.__aenter__()
        self._client = client
        self.leaving, self.driven_since = False, time.monotonic()
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
            self._probing = None
            self._log_statistics()
        client, self._client = self._client, None
        self.driven_since, self.leaving = None, False
        if client is not None:
            await client.__aexit__(kind, error, traceback)
        await self.close()

    async def ask(self) -> ComfyClient:
        """A client for questions over HTTP, also while another process serves it.

        Raises InstanceUnreachable where its address means another host.
        """
        if self._client is not None:
            return self._client
        if not self.is_near:
            raise InstanceUnreachable(
                f"{self.id} can only be asked on its own host, {self.host}.", never_sent=True
            )
        if self._asking is None:
            self._asking = ComfyClient(self.url, self.client_id, listen=False)
            await self._asking.__aenter__()
        return self._asking

    async def close(self) -> None:
        """End what ``ask`` has opened."""
        asking, self._asking = self._asking, None
        if asking is not None:
            await asking.__aexit__(None, None, None)

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

    def _note_drop(self) -> None:
        # The probe that will say more may take as long as its time-out.
        if self._client is not None:  # else it is we who close it
            self.last_error = self._client.last_error
            self.suspect()

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
            pause = (PROBE_SECONDS if self.up else 1.0) * _CHANCE.uniform(0.8, 1.2)
            was_connected = self.client.connected
            await asyncio.sleep(SHORTEST_PAUSE_SECONDS)
            # Not wait_for, which before Python 3.12 may swallow a cancel that comes with the news.
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(pause):
                    await self._wait_for_news(was_connected=was_connected)
            self._look_again.clear()

    def _tell_circuit(self, circuit: Circuit) -> None:
        log.warning("circuit breaker", instance=self.id, circuit=circuit)
        self._on_change()

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
                self.usage.look_at(await self.client.queue())
                if reconnected and self.client.refusals != self._refusals_seen:
                    # Not the network but the process went: whatever was loaded went with it.
                    if self._connections_seen:
                        self.usage.warmth.clear()
                    self._refusals_seen = self.client.refusals
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


def _away(told: Report) -> Report:
    """What is still good to know of an instance that nobody serves."""
    return Report(
        system=told.system,
        warm=told.warm,
        switch_ms=told.switch_ms,
        speeds=told.speeds,
        served=told.served,
        last_error=NOBODY,
    )
