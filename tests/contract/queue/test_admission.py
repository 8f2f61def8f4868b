"""Limits on what may wait, in all and of each user."""

import asyncio

import pytest

from atelier.jobs.lanes import lane_of
from atelier.jobs.queue import JobQueue, Limits, QueueFull, RunKey, RunTime


class Clock:
    seconds = 0.0

    def __call__(self):
        return self.seconds


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def limited(bench, clock):
    def limit(**limits):
        bench.queue = JobQueue(bench.database.dialect, limits=Limits(**limits), clock=clock)
        return bench

    return limit


async def test_no_more_jobs_wait_than_may(limited, clock):
    bench = limited(max_queued=3)
    for _ in range(3):
        await bench.put()
    with pytest.raises(QueueFull) as refused:
        await bench.put(user="bob")
    assert refused.value.data["limit"] == 3
    assert refused.value.data["retry_after_seconds"] >= 1
    assert (await bench.look("counts"))["queued"] == 3
    await bench.claim()
    clock.seconds += 1
    await bench.put(user="bob")


async def test_one_user_leaves_room_for_others(limited):
    bench = limited(max_queued_per_user=2)
    for priority in (0, 1):
        await bench.put(user="ada", priority=priority)
    with pytest.raises(QueueFull):
        await bench.put(user="ada")
    for _ in range(2):
        await bench.put(user="bob")


async def test_running_and_ended_jobs_take_no_room(limited, clock):
    bench = limited(max_queued_per_user=1)
    await bench.claimed()
    clock.seconds += 1
    claim = await bench.claimed()
    await bench.do("finish", claim.job.id, claim.lease, [])
    clock.seconds += 1
    await bench.put()


async def test_batch_is_let_in_as_far_as_there_is_room(limited):
    bench = limited(max_queued=4, max_queued_per_user=3)
    batch = [bench.new(user=user) for user in ("ada", "ada", "ada", "ada", "bob", "eve")]
    answers = await bench.do("insert_many", batch)
    refused = [isinstance(answer, QueueFull) for answer in answers]
    assert refused == [False, False, False, True, False, True]
    assert (await bench.look("counts"))["queued"] == 4


async def test_many_at_once_are_let_in_as_far_as_there_is_room(limited):
    bench = limited(max_queued=5)
    answers = await asyncio.gather(*(bench.put() for _ in range(40)), return_exceptions=True)
    queued = (await bench.look("counts"))["queued"]
    assert sum(isinstance(answer, QueueFull) for answer in answers) == 40 - queued
    # Where transactions run side by side (eight here), each may have seen the last place.
    assert 5 <= queued <= (5 if bench.database.dialect == "sqlite" else 12)


async def test_key_that_was_used_is_answered_when_the_queue_is_full(limited):
    bench = limited(max_queued=1)
    new = bench.new(idempotency_key="k")
    first, _ = await bench.do("insert", new)
    again, created = await bench.do("insert", bench.new(idempotency_key="k"))
    assert (again, created) == (first, False)
    assert await bench.do("insert", new) == (first, True)
    with pytest.raises(QueueFull):
        await bench.do("insert", bench.new(idempotency_key="k2"))


async def test_another_try_needs_room_too(limited, clock):
    bench = limited(max_queued_per_user=1)
    claim = await bench.claimed()
    await bench.do("fail", claim.job.id, claim.lease, {"code": "X"})
    clock.seconds += 1
    behind = await bench.put()
    with pytest.raises(QueueFull):
        await bench.do("requeue", claim.job.id)
    assert await bench.status(claim.job.id) == "failed"
    await bench.do("cancel", behind.id)
    clock.seconds += 1
    assert await bench.do("requeue", claim.job.id)


async def test_refused_job_is_told_when_the_next_leaves_the_queue(limited, clock):
    bench = limited(max_queued=1)
    await bench.do("learn", {RunKey("w", None, "i"): RunTime(40_000.0, 3)})
    await bench.put()
    with pytest.raises(QueueFull) as refused:
        await bench.put()
    assert refused.value.data["retry_after_seconds"] == 40
    await bench.claim()
    clock.seconds += 1
    await bench.claimed()
    clock.seconds += 1
    await bench.put()
    with pytest.raises(QueueFull) as refused:
        await bench.put()
    assert refused.value.data["retry_after_seconds"] == 20


async def test_another_process_s_jobs_are_counted(limited):
    bench = limited(max_queued=3)
    await bench.put()
    stranger = JobQueue(bench.database.dialect)
    for _ in range(2):
        await bench.database.run(lambda conn: stranger.insert(conn, bench.new()))
    with pytest.raises(QueueFull):
        await bench.put()


async def test_large_room_is_not_counted_for_every_job(limited, monkeypatch):
    bench = limited(max_queued=1000)
    counted = 0
    count = bench.queue._count

    async def counting(*arguments):
        nonlocal counted
        counted += 1
        return await count(*arguments)

    monkeypatch.setattr(bench.queue, "_count", counting)
    for _ in range(20):
        await bench.put()
    assert counted == 1


async def test_users_lanes_are_counted_whatever_their_kind(limited):
    bench = limited(max_queued_per_user=3)
    for model in ("a", "b", None):
        job = bench.new(user="ada", model=model)
        await bench.do("insert", job)
        assert len(lane_of(job).id) == 32
    with pytest.raises(QueueFull):
        await bench.put(user="ada", model="c")
