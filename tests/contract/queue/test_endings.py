"""Whoever asked to be told of a job's end is told of it once, in the transaction that ends it."""

from typing import Any

import pytest

from atelier.database import Database
from atelier.jobs.job import Job, Recalled
from atelier.jobs.queue import JobQueue

URL = "https://app.example/hooks"
ERROR = {"code": "X", "message": "x", "retryable": True}


class Ends:
    """What ``on_end`` was called with."""

    def __init__(self) -> None:
        self.jobs: list[Job] = []

    async def __call__(self, conn: Any, job: Job) -> None:
        self.jobs.append(job)

    @property
    def told(self) -> list[tuple[str, str]]:
        return [(job.id, job.status) for job in self.jobs]


@pytest.fixture
def ends(bench: Any) -> Ends:
    ends = Ends()
    bench.queue = JobQueue(bench.database.dialect, on_end=ends)
    return ends


async def test_webhook_url_is_kept(bench):
    job = await bench.put(webhook_url=URL)
    assert job.webhook_url == URL
    assert (await bench.get(job.id)).webhook_url == URL
    assert (await bench.get((await bench.put()).id)).webhook_url is None


async def test_success_is_told_with_what_it_made(bench, ends):
    claim = await bench.claimed(webhook_url=URL)
    await bench.do("finish", claim.job.id, claim.lease, [{"id": "a"}], {"execute_ms": 5})
    (job,) = ends.jobs
    assert (job.id, job.status, job.outputs) == (claim.job.id, "succeeded", ({"id": "a"},))
    assert job.timings == {"execute_ms": 5}
    assert job.finished_at_ms is not None


async def test_failure_is_told_with_its_error(bench, ends):
    claim = await bench.claimed(webhook_url=URL)
    await bench.do("fail", claim.job.id, claim.lease, ERROR)
    assert ends.jobs[0].error == ERROR
    assert ends.told == [(claim.job.id, "failed")]


async def test_last_attempt_that_fails_is_told_and_those_before_are_not(bench, ends):
    claim = await bench.claimed(webhook_url=URL, max_attempts=2)
    await bench.do("retry", claim.job.id, claim.lease, ERROR, 0)
    assert ends.told == []
    await bench.let_run(claim.job.id)
    claim = await bench.claim()
    assert await bench.do("retry", claim.job.id, claim.lease, ERROR, 0) == "failed"
    assert ends.told == [(claim.job.id, "failed")]


async def test_every_way_of_being_cancelled_is_told(bench, ends):
    waiting = await bench.put(webhook_url=URL)
    await bench.do("cancel", waiting.id)
    deleted = await bench.put(webhook_url=URL)
    await bench.do("delete", deleted.id)
    cleared = await bench.put(webhook_url=URL)
    await bench.do("cancel_queued")
    stopped = await bench.claimed(webhook_url=URL)
    assert await bench.do("cancel", stopped.job.id) == "requested"
    await bench.do("finish_cancelled", stopped.job.id, stopped.lease)
    released = await bench.claimed(webhook_url=URL)
    await bench.do("cancel", released.job.id)
    await bench.do("release", released.job.id, released.lease)
    ids = [waiting.id, deleted.id, cleared.id, stopped.job.id, released.job.id]
    assert ends.told == [(id, "cancelled") for id in ids]


async def test_job_without_an_address_tells_nobody(bench, ends):
    claim = await bench.claimed()
    await bench.do("finish", claim.job.id, claim.lease, [])
    await bench.do("cancel", (await bench.put()).id)
    await bench.put()
    await bench.do("cancel_queued")
    assert ends.told == []


async def test_job_that_is_answered_from_before_is_told_at_once(bench, ends):
    made = Recalled(cached_from="an-earlier-job", outputs=({"id": "a"},))
    new = bench.new(webhook_url=URL)
    for _ in range(2):  # as a transaction that is repeated does
        await bench.do("insert_recalled", new, made, "key")
    await bench.do("insert_recalled", bench.new(), made, "key")
    assert ends.told == [(new.id, "succeeded")]
    assert ends.jobs[0].outputs == ({"id": "a"},)


async def test_repeated_or_stale_writes_tell_nothing_more(bench, ends):
    claim = await bench.claimed(webhook_url=URL)
    assert not await bench.do("finish", claim.job.id, claim.lease - 1, [])
    await bench.do("finish", claim.job.id, claim.lease, [])
    assert await bench.do("finish", claim.job.id, claim.lease, [])
    assert await bench.do("cancel", claim.job.id) == "already"
    assert ends.told == [(claim.job.id, "succeeded")]


async def test_what_can_not_be_told_does_not_end(bench, database: Database):
    async def refuse(conn: Any, job: Job) -> None:
        raise RuntimeError("the outbox is broken")

    claim = await bench.claimed(webhook_url=URL)
    bench.queue = JobQueue(database.dialect, on_end=refuse)
    with pytest.raises(RuntimeError):
        await bench.do("finish", claim.job.id, claim.lease, [])
    assert await bench.status(claim.job.id) == "running"


async def test_emptying_the_queue_leaves_what_runs_and_what_others_submitted(bench):
    running = await bench.claimed()
    mine = [await bench.put(dialect="tasks") for _ in range(3)]
    other = await bench.put(user="eve")
    native = await bench.put()
    cancelled = await bench.do("cancel_queued", user="ada", dialect="tasks", limit=2)
    assert cancelled == [(job.id, "ada") for job in mine[:2]]
    assert await bench.do("cancel_queued", user="ada", dialect="tasks") == [(mine[2].id, "ada")]
    assert await bench.do("cancel_queued", user="ada", dialect="tasks") == []
    for job in (other, native):
        assert await bench.status(job.id) == "queued"
    assert await bench.status(running.job.id) == "running"
    job = await bench.get(mine[0].id)
    assert (job.status, job.cancel_requested) == ("cancelled", True)
    assert job.finished_at_ms is not None


async def test_what_is_under_way_is_told_with_its_prompt(bench):
    claim = await bench.claimed()
    first = await bench.put()
    urgent = await bench.put(priority=1)
    (one,) = await bench.look("under_way")
    assert (one.id, one.user, one.instance) == (claim.job.id, "ada", "gpu-1")
    assert one.prompt_id == claim.prompt_id
    assert await bench.look("waiting_ids", 10) == (urgent.id, first.id)
    assert await bench.look("waiting_ids", 1) == (urgent.id,)
