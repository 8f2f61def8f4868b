"""Does to the fleet what the plan says, and undoes it in time."""

import asyncio
import contextlib
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import redis.asyncio as redis
from sqlalchemy.exc import DBAPIError

from bench.chaos.databases import OwnDatabase
from bench.chaos.fleet import Member
from bench.chaos.plan import Blow
from bench.chaos.watching import Watcher
from bench.fault_proxy import FaultProxy
from bench.processes import DidNotStart

SERVING = "atelier worker:"  # said by a worker that has begun to claim
# How long a blow waits for a target that another blow is at work on.
PATIENCE_SECONDS = 30.0


@dataclass(slots=True)
class Striker:
    """``engine_faults``: engine's number -> spans (epoch s) in which it was not itself.

    ``worker_faults``: the same of workers; ``pool_faults``: spans in which the database was away.
    """

    workers: Sequence[Member]
    apis: Sequence[Member]
    engines: Sequence[Member]
    engine_proxies: Sequence[FaultProxy]
    database: OwnDatabase
    database_proxy: FaultProxy | None
    redis_proxy: FaultProxy | None
    redis_port: int | None
    store: Path
    watcher: Watcher
    # What a fault leaves behind for a while: reconnecting, probing, leases that weren't renewed.
    aftermath_seconds: float
    done: Counter[str] = field(default_factory=Counter)
    skipped: Counter[str] = field(default_factory=Counter)
    sigkills: int = 0
    unclean_stops: int = 0
    engine_faults: dict[int, list[tuple[float, float]]] = field(default_factory=dict)
    worker_faults: dict[int, list[tuple[float, float]]] = field(default_factory=dict)
    pool_faults: list[tuple[float, float]] = field(default_factory=list)

    async def run(self, blows: Sequence[Blow]) -> None:
        began = time.monotonic()
        async with asyncio.TaskGroup() as group:
            for blow in blows:
                await asyncio.sleep(max(0.0, began + blow.at - time.monotonic()))
                group.create_task(self._strike(blow), name=blow.kind)

    async def _strike(self, blow: Blow) -> None:
        method = getattr(self, f"_{blow.kind.replace(' ', '_')}")
        did = await method(blow)
        (self.skipped if did is False else self.done)[blow.kind] += 1

    @contextlib.asynccontextmanager
    async def _taken(self, members: Sequence[Member], number: int) -> AsyncIterator[Member | None]:
        """One that no other blow is at work on, or None where there is none for a while."""
        ends = time.monotonic() + PATIENCE_SECONDS
        while not (free := [one for one in members if not one.busy and one.alive]):
            if time.monotonic() > ends:
                break
            await asyncio.sleep(0.1)
        member = free[number % len(free)] if free else None
        if member is None:
            yield None
            return
        member.busy = True
        try:
            yield member
        finally:
            member.busy = False

    async def _kill_worker(self, blow: Blow) -> bool | None:
        async with self._taken(self.workers, blow.target) as worker:
            if worker is None:
                return False
            await self._kill_workers([worker], blow.lasts, all_workers=False)
        return None

    async def _kill_all_workers(self, blow: Blow) -> bool | None:
        free = [worker for worker in self.workers if not worker.busy]
        ends = time.monotonic() + PATIENCE_SECONDS
        while not free and time.monotonic() < ends:
            await asyncio.sleep(0.1)
            free = [worker for worker in self.workers if not worker.busy]
        for worker in free:
            worker.busy = True
        try:
            if not any(worker.alive for worker in free):
                return False
            await self._kill_workers(free, blow.lasts, all_workers=True)
        finally:
            for worker in free:
                worker.busy = False
        return None

    async def _kill_workers(
        self, workers: Sequence[Member], lasts: float, *, all_workers: bool
    ) -> None:
        for worker in workers:
            self.sigkills += worker.alive
            at = await worker.kill()
            await self.watcher.struck(worker.identity, at, all_workers=all_workers)
        await asyncio.sleep(lasts)
        for worker in workers:
            await worker.start()
        for worker in workers:
            with contextlib.suppress(DidNotStart):  # as where the database is away meanwhile
                await worker.until_saying(SERVING)
            span = (worker.deaths[-1], time.time())
            self.worker_faults.setdefault(self.workers.index(worker), []).append(span)

    async def _kill_api(self, blow: Blow) -> bool | None:
        async with self._taken(self.apis, blow.target) as api:
            if api is None:
                return False
            self.sigkills += 1
            await api.kill()
            await asyncio.sleep(min(blow.lasts, 3.0))
            await api.start()
        return None

    async def _kill_engine(self, blow: Blow) -> bool | None:
        async with self._taken(self.engines, blow.target) as engine:
            if engine is None:
                return False
            self.sigkills += 1
            with self._faulty(engine):
                await engine.kill()
                await asyncio.sleep(blow.lasts)
                await engine.start()
                await engine.until_answering()
        return None

    async def _freeze_engine(self, blow: Blow) -> bool | None:
        async with self._taken(self.engines, blow.target) as engine:
            if engine is None:
                return False
            with self._faulty(engine):
                engine.freeze()
                await asyncio.sleep(blow.lasts)
                engine.thaw()
        return None

    async def _freeze_worker(self, blow: Blow) -> bool | None:
        async with self._taken(self.workers, blow.target) as worker:
            if worker is None:
                return False
            at = time.time()
            worker.freeze()
            await self.watcher.struck(worker.identity, at, all_workers=False)
            await asyncio.sleep(blow.lasts)
            worker.thaw()
            span = (at, time.time())
            self.worker_faults.setdefault(self.workers.index(worker), []).append(span)
        return None

    async def _cut_engine(self, blow: Blow) -> bool | None:
        async with self._taken(self.engines, blow.target) as engine:
            if engine is None:
                return False
            with self._faulty(engine):
                await self._cut(self.engine_proxies[self.engines.index(engine)], blow)
        return None

    async def _cut_database(self, blow: Blow) -> bool | None:
        with self._pool_faulty():
            if self.database_proxy is None:
                await asyncio.to_thread(self.database.hold_lock, min(blow.lasts, 4.0))
            else:
                await self._cut(self.database_proxy, blow)
        return None

    async def _end_database_sessions(self, blow: Blow) -> bool | None:
        with self._pool_faulty():
            if self.database.kind == "sqlite":
                await asyncio.to_thread(self.database.hold_lock, min(blow.lasts, 4.0))
                return None
            for _ in range(3):
                with contextlib.suppress(DBAPIError):
                    await asyncio.to_thread(self.database.end_sessions)
                await asyncio.sleep(blow.lasts / 3)
        return None

    async def _cut_redis(self, blow: Blow) -> bool | None:
        if self.redis_proxy is None:
            return False
        await self._cut(self.redis_proxy, blow)
        return None

    async def _flush_redis(self, blow: Blow) -> bool | None:
        if self.redis_port is None:
            return False
        client = redis.Redis(port=self.redis_port)
        await client.flushall()
        await client.aclose()
        return None

    async def _store_away(self, blow: Blow) -> bool | None:
        """A file where the folder was: root may write to any folder, whatever its rights."""
        aside = self.store.with_name("storage-aside")
        if aside.exists():
            return False
        self.store.rename(aside)
        self.store.touch(mode=0o777)
        self.store.chmod(0o777)
        try:
            await asyncio.sleep(blow.lasts)
        finally:
            self.store.unlink()
            aside.rename(self.store)
        return None

    async def _rolling_restart(self, blow: Blow) -> bool | None:
        for members in (self.workers, self.apis):
            for number in range(len(members)):
                async with self._taken(members, number) as member:
                    if member is None:
                        continue
                    began = time.time()
                    self.unclean_stops += not await member.stop()
                    await member.start()
                    if member in self.workers:
                        await member.until_saying(SERVING)
                        span = (began, time.time())
                        self.worker_faults.setdefault(number, []).append(span)
        return None

    async def _cut(self, proxy: FaultProxy, blow: Blow) -> None:
        if blow.cut == "reset":
            proxy.reset()
            return
        if blow.cut == "cut":
            proxy.cut_after(7)
            await asyncio.sleep(blow.lasts)
            return
        await proxy.set(blow.cut)
        if blow.cut == "refuse":
            proxy.reset()
        await asyncio.sleep(blow.lasts)
        await proxy.set("pass")

    @contextlib.contextmanager
    def _faulty(self, engine: Member) -> Iterator[None]:
        began = time.time()
        try:
            yield
        finally:
            span = (began, time.time() + self.aftermath_seconds)
            self.engine_faults.setdefault(self.engines.index(engine), []).append(span)

    @contextlib.contextmanager
    def _pool_faulty(self) -> Iterator[None]:
        began = time.time()
        try:
            yield
        finally:
            self.pool_faults.append((began, time.time() + self.aftermath_seconds))
