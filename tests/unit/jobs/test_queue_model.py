"""Claim, renew, finish, fail, retry, release, cancel, expire, reclaim: against a model."""

import asyncio
import itertools
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from sqlalchemy import update

from atelier.database import Database, now_ms
from atelier.jobs.job import TRANSITIONS, NewJob
from atelier.jobs.policy import Seat, choose
from atelier.jobs.queue import JobQueue
from atelier.jobs.tables import jobs

WORKERS = ("w1", "w2")
ERROR = {"code": "X"}


@dataclass
class ModelJob:
    order: tuple[int, int]
    max_attempts: int
    status: str = "queued"
    attempts: int = 0
    lease: int = 0
    expired: bool = False
    cancel_requested: bool = False
    worker: str | None = None
    prompt_id: str | None = None
    history: list[str] = field(default_factory=lambda: ["queued"])

    def become(self, status: str) -> None:
        if status != self.status:
            self.status = status
            self.history.append(status)


class QueueMachine(RuleBasedStateMachine):
    """Every lease that was ever given is kept, so that stale ones are tried as well."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.TemporaryDirectory()
        self.runner = asyncio.Runner()
        self.database: Database = self.runner.run(self._open())
        self.queue = JobQueue(self.database.dialect)
        self.model: dict[str, ModelJob] = {}
        self.leases: list[tuple[str, int, str]] = []
        self.numbers = itertools.count()

    async def _open(self) -> Database:
        database = await Database.open(f"sqlite:///{Path(self.folder.name) / 'jobs.db'}")
        await database.migrate()
        return database

    def teardown(self) -> None:
        for job in self.model.values():
            for before, after in itertools.pairwise(job.history):
                assert after in TRANSITIONS[before]  # type: ignore[index]
        self.runner.run(self.database.close())
        self.runner.close()
        self.folder.cleanup()

    def do(self, method: str, *arguments: Any, **options: Any) -> Any:
        call = getattr(self.queue, method)
        return self.runner.run(self.database.run(lambda conn: call(conn, *arguments, **options)))

    def some_lease(self, data: st.DataObject) -> tuple[str, int, ModelJob, bool]:
        id, lease, _ = data.draw(st.sampled_from(self.leases))
        job = self.model[id]
        return id, lease, job, job.status == "running" and job.lease == lease

    @rule(priority=st.integers(-1, 1), max_attempts=st.integers(1, 2))
    def insert(self, priority: int, max_attempts: int) -> None:
        number = next(self.numbers)
        new = NewJob(
            id=f"{number:08}",
            user="u",
            workflow="w",
            workflow_version="1",
            requirement="r",
            priority=priority,
            max_attempts=max_attempts,
        )
        _, created = self.do("insert", new)
        assert created
        self.model[new.id] = ModelJob((-priority, number), max_attempts)

    @rule(worker=st.sampled_from(WORKERS))
    def claim(self, worker: str) -> None:
        claim = self.do("claim", worker=worker, seat=Seat("i", lambda _: True), choose=choose)
        waiting = [id for id, job in self.model.items() if job.status == "queued"]
        if not waiting:
            assert claim is None
            return
        assert claim.job.id == min(waiting, key=lambda id: self.model[id].order)
        job = self.model[claim.job.id]
        job.lease += 1
        job.attempts += 1
        job.become("running")
        job.worker, job.expired, job.prompt_id = worker, False, claim.prompt_id
        assert claim.lease == job.lease
        self.leases.append((claim.job.id, claim.lease, worker))

    @precondition(lambda self: self.leases)
    @rule(data=st.data(), end=st.sampled_from(["finish", "fail", "finish_cancelled"]))
    def end(self, data: st.DataObject, end: str) -> None:
        id, lease, job, held = self.some_lease(data)
        arguments = {"finish": ([],), "fail": (ERROR,), "finish_cancelled": ()}[end]
        outcome = {"finish": "succeeded", "fail": "failed", "finish_cancelled": "cancelled"}[end]
        repeated = job.lease == lease and job.status == outcome
        assert self.do(end, id, lease, *arguments) == (held or repeated)
        if held:
            job.become(outcome)

    @precondition(lambda self: self.leases)
    @rule(data=st.data())
    def retry(self, data: st.DataObject) -> None:
        id, lease, job, held = self.some_lease(data)
        answer = self.do("retry", id, lease, ERROR, 0)
        if not held:
            repeated = job.lease == lease and job.status in ("queued", "failed", "cancelled")
            assert answer == (job.status if repeated else False)
            return
        if job.cancel_requested:
            job.become("cancelled")
        else:
            job.become("failed" if job.attempts >= job.max_attempts else "queued")
        assert answer == job.status

    @precondition(lambda self: self.leases)
    @rule(data=st.data())
    def release(self, data: st.DataObject) -> None:
        id, lease, job, held = self.some_lease(data)
        answer = self.do("release", id, lease)
        if not held:
            assert answer == (job.lease == lease and job.status in ("queued", "cancelled"))
            return
        assert answer
        if job.cancel_requested:
            job.become("cancelled")
        else:
            job.attempts -= 1
            job.become("queued")

    @precondition(lambda self: self.leases)
    @rule(data=st.data())
    def renew(self, data: st.DataObject) -> None:
        worker = data.draw(st.sampled_from(WORKERS))
        leases = {id: lease for id, lease, holder in self.leases if holder == worker}
        held = {
            id
            for id, lease in leases.items()
            if self.model[id].status == "running"
            and (self.model[id].lease, self.model[id].worker) == (lease, worker)
        }
        renewed = self.do("renew", worker, 60_000, leases)
        assert renewed.lost == leases.keys() - held
        assert renewed.cancel_requested == {id for id in held if self.model[id].cancel_requested}
        for id in held:
            self.model[id].expired = False

    def running(self) -> list[str]:
        return sorted(id for id, job in self.model.items() if job.status == "running")

    @precondition(lambda self: self.running())
    @rule(data=st.data())
    def expire(self, data: st.DataObject) -> None:
        id = data.draw(st.sampled_from(self.running()))
        expired = update(jobs).where(jobs.c.id == id).values(lease_expires_at_ms=now_ms() - 1)
        self.runner.run(self.database.run(lambda conn: conn.execute(expired)))
        self.model[id].expired = True

    @precondition(lambda self: self.running())
    @rule(worker=st.sampled_from(WORKERS))
    def reclaim(self, worker: str) -> None:
        claims = self.do("reclaim", worker=worker, instances=["i"])
        expected = {id for id, job in self.model.items() if job.status == "running" and job.expired}
        assert {claim.job.id for claim in claims} == expected
        for claim in claims:
            job = self.model[claim.job.id]
            job.lease += 1
            job.worker, job.expired = worker, False
            assert (claim.lease, claim.prompt_id) == (job.lease, job.prompt_id)
            assert claim.job.attempts == job.attempts
            self.leases.append((claim.job.id, claim.lease, worker))

    @precondition(lambda self: self.model)
    @rule(data=st.data())
    def cancel(self, data: st.DataObject) -> None:
        id = data.draw(st.sampled_from(sorted(self.model)))
        job = self.model[id]
        expected = {"queued": "cancelled", "running": "requested"}.get(job.status, "already")
        assert self.do("cancel", id) == expected
        if expected != "already":
            job.cancel_requested = True
        if expected == "cancelled":
            job.become("cancelled")

    @precondition(lambda self: self.model)
    @rule(data=st.data())
    def requeue(self, data: st.DataObject) -> None:
        id = data.draw(st.sampled_from(sorted(self.model)))
        job = self.model[id]
        can = job.status in ("failed", "cancelled")
        # Its new place must not be in the same millisecond as the place of the next job.
        self.runner.run(asyncio.sleep(0.002))
        assert self.do("requeue", id) == can
        self.runner.run(asyncio.sleep(0.002))
        if can:
            job.become("queued")
            job.attempts, job.cancel_requested = 0, False
            job.order = (job.order[0], next(self.numbers))

    @invariant()
    def database_and_model_agree(self) -> None:
        async def look() -> dict[str, Any]:
            async with self.database.read() as conn:
                page = await self.queue.list(conn, limit=1000)
                places = await self.queue.positions(conn, list(self.model))
            waiting = sorted(
                (id for id, job in self.model.items() if job.status == "queued"),
                key=lambda id: self.model[id].order,
            )
            assert places == {id: place for place, id in enumerate(waiting, 1)}
            return {job.id: job for job in page.jobs}

        kept = self.runner.run(look())
        assert kept.keys() == self.model.keys()
        for id, job in self.model.items():
            assert kept[id].status == job.status
            assert kept[id].lease == job.lease
            assert kept[id].attempts == job.attempts
            assert kept[id].cancel_requested == job.cancel_requested
            if job.status == "running":
                assert (kept[id].worker, kept[id].prompt_id) == (job.worker, job.prompt_id)


TestQueue = QueueMachine.TestCase
TestQueue.settings = settings(
    max_examples=25,
    stateful_step_count=40,
    derandomize=True,
    database=None,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)
