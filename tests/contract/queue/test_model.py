"""Claim, renew, finish, fail, retry, release, cancel, expire, reclaim: against a model.

On each database, with all that is waited for done in between: what is tried here is the order of
things, not their simultaneity.
"""

import asyncio
import itertools
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from sqlalchemy import delete, update

from atelier.database import Database, now_ms
from atelier.jobs.job import TRANSITIONS, NewJob
from atelier.jobs.lanes import lane_of
from atelier.jobs.policy import Seat, choose
from atelier.jobs.queue import Ask, JobQueue, Success
from atelier.jobs.tables import job_details, jobs

WORKERS = ("w1", "w2")
USERS = ("u1", "u2")
ERROR = {"code": "X"}
# Steps cost some statements each, which a server answers more slowly.
EXAMPLES = {"sqlite": 15, "postgresql": 5, "mariadb": 5}


@dataclass
class ModelJob:
    order: tuple[int, int]
    max_attempts: int
    lane: str
    status: str = "queued"
    attempts: int = 0
    lease: int = 0
    expired: bool = False
    cancel_requested: bool = False
    worker: str | None = None
    prompt_id: str | None = None
    avoid: str | None = None
    history: list[str] = field(default_factory=lambda: ["queued"])

    def become(self, status: str) -> None:
        if status != self.status:
            self.status = status
            self.history.append(status)


class QueueMachine(RuleBasedStateMachine):
    """Every lease that was ever given is kept, so that stale ones are tried as well."""

    def __init__(self, runner: asyncio.Runner, database: Database) -> None:
        super().__init__()
        self.runner = runner
        self.database = database
        self.queue = JobQueue(self.database.dialect)
        self.model: dict[str, ModelJob] = {}
        self.leases: list[tuple[str, int, str]] = []
        self.numbers = itertools.count()
        self.runner.run(self._empty())

    async def _empty(self) -> None:
        async with self.database.transaction(durable=False) as conn:
            for table in (jobs, job_details):
                await conn.execute(delete(table))

    def teardown(self) -> None:
        for job in self.model.values():
            for before, after in itertools.pairwise(job.history):
                assert after in TRANSITIONS[before]  # type: ignore[index]

    def do(self, method: str, *arguments: Any, **options: Any) -> Any:
        call = getattr(self.queue, method)
        work = self.database.run(lambda conn: call(conn, *arguments, **options), durable=False)
        return self.runner.run(work)

    def waiting(self, lane: str | None = None) -> list[str]:
        """What is queued, in all or in ``lane``, in its order."""
        ids = [
            id
            for id, job in self.model.items()
            if job.status == "queued" and lane in (None, job.lane)
        ]
        return sorted(ids, key=lambda id: self.model[id].order)

    def took(self, claim: Any, worker: str) -> None:
        """Let the model know of ``claim``."""
        job = self.model[claim.job.id]
        job.lease += 1
        job.attempts += 1
        job.become("running")
        job.worker, job.expired, job.prompt_id = worker, False, claim.prompt_id
        assert claim.lease == job.lease
        self.leases.append((claim.job.id, claim.lease, worker))

    def some_lease(self, data: st.DataObject) -> tuple[str, int, ModelJob, bool]:
        id, lease, _ = data.draw(st.sampled_from(self.leases))
        job = self.model[id]
        return id, lease, job, job.status == "running" and job.lease == lease

    @rule(priority=st.integers(-1, 1), max_attempts=st.integers(1, 2), user=st.sampled_from(USERS))
    def insert(self, priority: int, max_attempts: int, user: str) -> None:
        number = next(self.numbers)
        new = NewJob(
            id=f"{number:08}",
            user=user,
            workflow="w",
            workflow_version="1",
            requirement="r",
            priority=priority,
            max_attempts=max_attempts,
        )
        _, created = self.do("insert", new)
        assert created
        self.model[new.id] = ModelJob((-priority, number), max_attempts, lane_of(new).id)

    @rule(worker=st.sampled_from(WORKERS))
    def claim(self, worker: str) -> None:
        claim = self.do("claim", worker=worker, seat=Seat("i", lambda _: True), choose=choose)
        waiting = self.waiting()
        if not waiting:
            assert claim is None
            return
        # One that was to go elsewhere comes last, but it comes.
        welcome = [id for id in waiting if self.model[id].avoid != "i"]
        assert claim.job.id == (welcome or waiting)[0]
        self.took(claim, worker)

    @precondition(lambda self: self.model)
    @rule(
        data=st.data(),
        worker=st.sampled_from(WORKERS),
        limits=st.lists(st.integers(1, 3), min_size=1, max_size=3),
        avoided=st.booleans(),
    )
    def claim_lanes(
        self, data: st.DataObject, worker: str, limits: list[int], avoided: bool
    ) -> None:
        known = sorted({job.lane for job in self.model.values()})
        asks = [Ask(data.draw(st.sampled_from(known)), "i", limit, avoided) for limit in limits]
        answers = self.do("claim_lanes", worker=worker, asks=asks)
        for ask, claims in zip(asks, answers, strict=True):
            waiting = self.waiting(ask.lane)
            there = [id for id in waiting if avoided or self.model[id].avoid != "i"]
            assert [claim.job.id for claim in claims] == there[: ask.limit]
            for claim in claims:
                self.took(claim, worker)

    @precondition(lambda self: self.leases)
    @rule(data=st.data(), several=st.integers(2, 4))
    def finish_many(self, data: st.DataObject, several: int) -> None:
        tried = [self.some_lease(data) for _ in range(several)]
        answers = self.do("finish_many", [Success(id, lease, []) for id, lease, *_ in tried])
        for (_, lease, job, held), answer in zip(tried, answers, strict=True):
            repeated = job.lease == lease and job.status == "succeeded"
            assert answer == (held or repeated)
            if held:
                job.become("succeeded")

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
    @rule(data=st.data(), avoid=st.sampled_from([None, "i"]))
    def retry(self, data: st.DataObject, avoid: str | None) -> None:
        id, lease, job, held = self.some_lease(data)
        answer = self.do("retry", id, lease, ERROR, 0, avoid)
        if not held:
            repeated = job.lease == lease and job.status in ("queued", "failed", "cancelled")
            assert answer == (job.status if repeated else False)
            return
        if job.cancel_requested:
            job.become("cancelled")
        else:
            job.become("failed" if job.attempts >= job.max_attempts else "queued")
            if job.status == "queued":
                job.avoid = avoid
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
            job.attempts, job.cancel_requested, job.avoid = 0, False, None
            job.order = (job.order[0], next(self.numbers))

    @invariant()
    def database_and_model_agree(self) -> None:
        async def look() -> dict[str, Any]:
            async with self.database.read() as conn:
                page = await self.queue.list(conn, limit=1000)
                places = await self.queue.positions(conn, list(self.model))
                by_lane = await self.queue.waiting(conn)
            waiting = self.waiting()
            assert places == {id: place for place, id in enumerate(waiting, 1)}
            lanes = Counter(self.model[id].lane for id in waiting)
            assert {one.lane.id: one.count for one in by_lane} == lanes
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


def test_queue_does_what_the_model_says(database_kind, database_url):
    async def opened() -> Database:
        return await Database.open(database_url)

    with asyncio.Runner() as runner:
        database = runner.run(opened())
        try:
            run_state_machine_as_test(
                lambda: QueueMachine(runner, database),
                settings=settings(
                    max_examples=EXAMPLES[database_kind],
                    stateful_step_count=40,
                    derandomize=True,
                    database=None,
                    deadline=None,
                    suppress_health_check=list(HealthCheck),
                ),
            )
        finally:
            runner.run(database.close())
