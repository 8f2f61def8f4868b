"""What /metrics tells of the present: asked of the database seldom, however often one scrapes."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Final

from atelier.database import Database, DatabaseUnavailable
from atelier.events.bus import Bus
from atelier.jobs.depth import Depth, depth
from atelier.jobs.queue import JobQueue
from atelier.pool.instance import Instance
from atelier.pool.pool import Pool
from atelier.telemetry.labels import OTHER
from atelier.telemetry.metrics import exposition
from atelier.telemetry.state import (
    DeviceFigures,
    Figures,
    InstanceFigures,
    SharedFigures,
    State,
    Waiting,
)
from atelier.webhooks.outbox import Outbox

KEEP_SECONDS: Final = 2.0
# Counting a long queue takes a while: at most a twentieth of the time goes there.
PAUSE_PER_SECOND_OF_WORK: Final = 20.0
MOST_SERIES: Final = 50  # of workflow and model; the others are one
ASK_SECONDS: Final = 3.0


class Watching:
    """``await metrics(accept)`` gives the body and its media type.

    ``running_jobs`` and ``spool`` (jobs, bytes) tell of the worker in this process, if any.
    """

    def __init__(
        self,
        *,
        database: Database,
        queue: JobQueue,
        pool: Pool,
        bus: Bus,
        running_jobs: Callable[[], int],
        spool: Callable[[], Awaitable[tuple[int, int]]] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._database = database
        self._queue = queue
        self._outbox = Outbox()
        self._pool = pool
        self._bus = bus
        self._running_jobs = running_jobs
        self._spool = spool
        self._clock = clock
        self._asking = asyncio.Lock()
        self._shared: SharedFigures | None = None
        self._spooled = (0, 0)
        self._fresh_until = -1.0

    async def metrics(self, accept: str) -> tuple[bytes, str]:
        """Never raises: without the database what this process counted is told all the same."""
        await self._refresh()
        jobs, size = self._spooled
        figures = Figures(
            shared=self._shared,
            instances=[_instance(one) for one in self._pool.instances],
            listeners=self._bus.listeners,
            database_retries=self._database.retries,
            worker_jobs=self._running_jobs(),
            spool_jobs=jobs,
            spool_bytes=size,
        )
        return exposition(accept, [State(figures)])

    async def _refresh(self) -> None:
        async with self._asking:
            started = self._clock()
            if started < self._fresh_until:
                return
            if self._spool is not None:
                self._spooled = await self._spool()
            try:
                async with asyncio.timeout(ASK_SECONDS):
                    self._shared = await self._ask()
            except (DatabaseUnavailable, TimeoutError):
                self._shared = None
            now = self._clock()
            pause = max(KEEP_SECONDS, PAUSE_PER_SECOND_OF_WORK * (now - started))
            self._fresh_until = now + pause

    async def _ask(self) -> SharedFigures:
        async with self._database.read() as conn:
            waiting = await depth(conn)
            _, running = await self._queue.live(conn)
            pending, oldest_ms = await self._outbox.backlog(conn)
        return SharedFigures(_bounded(waiting), running, pending, oldest_ms / 1000)


def _bounded(depths: Sequence[Depth]) -> list[Waiting]:
    shown = [
        Waiting(one.workflow, one.model or "", one.number, max(0, one.oldest_ms) / 1000)
        for one in depths[:MOST_SERIES]
    ]
    if rest := depths[MOST_SERIES:]:
        oldest_ms = max(one.oldest_ms for one in rest)
        shown.append(Waiting(OTHER, OTHER, sum(one.number for one in rest), oldest_ms / 1000))
    return shown


def _instance(instance: Instance) -> InstanceFigures:
    latency_ms = instance.latency_ms
    return InstanceFigures(
        id=instance.id,
        up=instance.up,
        running=len(instance.running),
        served=instance.served,
        queue=instance.queue_remaining,
        latency_seconds=None if latency_ms is None else latency_ms / 1000,
        breaker=instance.circuit,
        driver=instance.driver,
        devices=tuple(
            DeviceFigures(
                f"{device.get('type', 'device')}:{device.get('index') or 0}",
                float(device.get("vram_total") or 0),
                float(device.get("vram_free") or 0),
            )
            for device in instance.system.get("devices") or ()
            if isinstance(device, dict)
        ),
    )
