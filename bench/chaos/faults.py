"""What is done to the processes, one thing after another, and when.

Every case puts back what it took away before it returns.
"""

import asyncio
import random
import signal
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from bench.chaos.databases import ChaosDatabase
from bench.chaos.fleet import Fleet, Member
from bench.chaos.resume import Resumes


@dataclass(frozen=True, slots=True)
class Harm:
    """``target`` is a process's name, "database" or "store"; times in seconds of the day."""

    case: str
    target: str
    began: float
    ended: float


@dataclass(slots=True)
class Faults:
    """``lease_seconds`` is what the workers are told; a stale one sleeps longer."""

    fleet: Fleet
    database: ChaosDatabase
    resumes: Resumes
    rng: random.Random
    lease_seconds: float
    done: list[Harm] = field(default_factory=list)

    def cases(self) -> list[tuple[float, Callable[[], Awaitable[str]]]]:
        """With the weight of each."""
        cases: list[tuple[float, Callable[[], Awaitable[str]]]] = [
            (6, self.kill_worker),
            (2, self.kill_worker_for_long),
            (3, self.kill_api),
            (3, self.kill_engine),
            (1.5, self.freeze_worker),
            (1, self.freeze_engine),
            (1, self.reset_engine),
            (1, self.half_open_engine),
            (1, self.cut_engine),
            (1, self.store_away),
            (1.5, self.restart_worker),
            (1, self.restart_api),
        ]
        if self.database.proxy is not None:
            cases += [
                (1.5, self.break_database_connections),
                (1, self.reset_database),
                (0.7, self.half_open_database),
                (1, self.cut_database),
            ]
        if self.fleet.redis is not None:
            cases += [(1, self.flush_redis), (1, self.kill_redis)]
        return cases

    async def one(self) -> Harm:
        """Do one case, drawn by weight."""
        cases = self.cases()
        (case,) = self.rng.choices([c for _, c in cases], [weight for weight, _ in cases])
        return await self.do(case)

    async def do(self, case: Callable[[], Awaitable[str]]) -> Harm:
        began = time.time()
        target = await case()
        harm = Harm(case.__name__, target, began, time.time())
        self.done.append(harm)
        return harm

    # -- processes -------------------------------------------------------------------------------

    async def kill_worker(self) -> str:
        return await self._kill_worker(0.0)

    async def kill_worker_for_long(self) -> str:
        """It doesn't come back before others have taken over."""
        return await self._kill_worker(self.lease_seconds * 1.5)

    async def _kill_worker(self, pause: float) -> str:
        worker = self._alive(self.fleet.workers)
        held = await self.resumes.held_by(worker)
        worker.pause_seconds = pause
        worker.signal(signal.SIGKILL)
        self.resumes.follow(held, time.time())
        await asyncio.sleep(0.1)
        return worker.name

    async def kill_api(self) -> str:
        return self._signal(self._alive(self.fleet.apis), signal.SIGKILL)

    async def kill_engine(self) -> str:
        engines = [engine.member for engine in self.fleet.engines]
        return self._signal(self._alive(engines), signal.SIGKILL)

    async def freeze_worker(self) -> str:
        """Longer than its leases: when it goes on it is stale, and doesn't know."""
        return await self._freeze(self._alive(self.fleet.workers), self.lease_seconds * 1.6)

    async def freeze_engine(self) -> str:
        engine = self._alive([engine.member for engine in self.fleet.engines])
        return await self._freeze(engine, self.rng.uniform(1, 20))

    async def restart_worker(self) -> str:
        return self._signal(self._alive(self.fleet.workers), signal.SIGTERM)

    async def restart_api(self) -> str:
        return self._signal(self._alive(self.fleet.apis), signal.SIGTERM)

    async def _freeze(self, member: Member, seconds: float) -> str:
        member.signal(signal.SIGSTOP)
        try:
            await asyncio.sleep(seconds)
        finally:
            member.signal(signal.SIGCONT)
        return member.name

    def _alive(self, members: list[Member]) -> Member:
        return self.rng.choice([one for one in members if one.pid is not None] or members)

    def _signal(self, member: Member, number: signal.Signals) -> str:
        member.signal(number)
        return member.name

    # -- networks --------------------------------------------------------------------------------

    async def reset_engine(self) -> str:
        engine = self.rng.choice(self.fleet.engines)
        engine.proxy.reset()
        return engine.member.name

    async def half_open_engine(self) -> str:
        engine = self.rng.choice(self.fleet.engines)
        engine.proxy.hold()
        try:
            await asyncio.sleep(self.rng.uniform(1, 20))
        finally:
            engine.proxy.flow()
        return engine.member.name

    async def cut_engine(self) -> str:
        engine = self.rng.choice(self.fleet.engines)
        await engine.proxy.cut(self.rng.uniform(0.5, 6))
        return engine.member.name

    async def break_database_connections(self) -> str:
        await self.database.break_connections()
        return "database"

    async def reset_database(self) -> str:
        assert self.database.proxy is not None
        self.database.proxy.reset()
        return "database"

    async def half_open_database(self) -> str:
        assert self.database.proxy is not None
        self.database.proxy.hold()
        try:
            await asyncio.sleep(self.rng.uniform(1, 5))
        finally:
            self.database.proxy.flow()
        return "database"

    async def cut_database(self) -> str:
        assert self.database.proxy is not None
        await self.database.proxy.cut(self.rng.uniform(0.5, 8))
        return "database"

    # -- the store and Redis ---------------------------------------------------------------------

    async def store_away(self) -> str:
        """A file stands where the folder was: so not even root can write there."""
        store, aside = self.fleet.store, self.fleet.store.with_name("storage.away")
        store.rename(aside)
        store.write_bytes(b"")
        try:
            await asyncio.sleep(self.rng.uniform(1, 5))
        finally:
            store.unlink()
            aside.rename(store)
        return "store"

    async def flush_redis(self) -> str:
        """Its memory is all there is: a new process is an empty one."""
        return await self._end_redis(signal.SIGTERM)

    async def kill_redis(self) -> str:
        return await self._end_redis(signal.SIGKILL)

    async def _end_redis(self, number: signal.Signals) -> str:
        assert self.fleet.redis is not None
        self.fleet.redis.pause_seconds = self.rng.choice([0.0, 3.0])
        return self._signal(self.fleet.redis, number)
