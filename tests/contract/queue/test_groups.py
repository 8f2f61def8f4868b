"""Many jobs in one transaction: each gets its own answer, and no other's fault."""

import asyncio
import contextlib

import pytest

from atelier.database import Database, DatabaseUnavailable
from atelier.jobs.job import Job
from atelier.jobs.queue import JobQueue, Success

URL = "https://app.example/hooks"


async def test_inserts_that_come_together_are_all_accepted(bench):
    insert = bench.database.grouped(bench.queue.insert_many)
    new = [bench.new(idempotency_key=f"k{n}" if n % 3 == 0 else None) for n in range(20)]
    answers = await asyncio.gather(*(insert(one) for one in new))
    assert [job.id for job, _ in answers] == [one.id for one in new]
    assert all(created for _, created in answers)
    assert [await bench.get(job.id) for job, _ in answers] == [job for job, _ in answers]


async def test_one_that_cannot_be_inserted_leaves_the_others_alone(bench):
    insert = bench.database.grouped(bench.queue.insert_many)
    new = [bench.new() for _ in range(6)]
    # Longer than any column: the database refuses the whole statement.
    object.__setattr__(new[3], "workflow_version", None)
    answers = await asyncio.gather(*(insert(one) for one in new), return_exceptions=True)
    assert [isinstance(answer, Exception) for answer in answers] == [n == 3 for n in range(6)]
    assert (await bench.look("counts"))["queued"] == 5


async def test_batch_repeated_after_a_lost_answer_changes_nothing(bench):
    new = [bench.new() for _ in range(4)]
    first = await bench.do("insert_many", new[:3])
    assert await bench.do("insert_many", new) == [*first, (await bench.get(new[3].id), True)]
    assert (await bench.look("counts"))["queued"] == 4


async def test_successes_are_recorded_together(bench):
    claims = [await bench.claimed(variant="a") for _ in range(5)]
    successes = [
        Success(
            claim.job.id,
            claim.lease,
            [{"id": f"o{number}"}],
            {"execute_ms": number},
            inputs={"n": number} if number % 2 else None,
            variant="b" if number > 2 else None,
            cache_key=f"key{number}",
        )
        for number, claim in enumerate(claims)
    ]
    assert await bench.do("finish_many", successes) == [True] * 5
    for number, claim in enumerate(claims):
        job = await bench.get(claim.job.id)
        assert (job.status, job.progress.percent) == ("succeeded", 100)
        assert job.outputs == ({"id": f"o{number}"},)
        assert job.timings == {"execute_ms": number}
        assert job.inputs == ({"n": number} if number % 2 else {})
        assert job.variant == ("b" if number > 2 else "a")
        assert job.finished_at_ms is not None


async def test_stale_success_among_others_changes_nothing(bench):
    stale, good, done = [await bench.claimed() for _ in range(3)]
    await bench.expire(stale.job.id)
    await bench.do("reclaim", worker="w2", instances=["gpu-1"])
    assert await bench.do("finish", done.job.id, done.lease, [{"id": "first"}])
    successes = [
        Success(claim.job.id, claim.lease, [{"id": "late"}]) for claim in (stale, good, done)
    ]
    unknown = Success("nobody", 1, [])
    assert await bench.do("finish_many", [*successes, unknown]) == [False, True, True, False]
    assert await bench.status(stale.job.id) == "running"
    assert (await bench.get(good.job.id)).outputs == ({"id": "late"},)
    assert (await bench.get(done.job.id)).outputs == ({"id": "first"},)


async def test_one_job_twice_among_many_is_finished_once(bench):
    claim = await bench.claimed()
    twice = [Success(claim.job.id, claim.lease, [{"id": name}]) for name in ("a", "b")]
    assert await bench.do("finish_many", twice) == [True, True]
    assert (await bench.get(claim.job.id)).outputs == ({"id": "a"},)


async def test_each_end_that_somebody_waits_for_is_told_once(bench):
    told: list[Job] = []

    async def on_end(conn, job):
        told.append(job)

    bench.queue = JobQueue(bench.database.dialect, on_end=on_end)
    claims = [await bench.claimed(webhook_url=URL if n else None) for n in range(3)]
    successes = [Success(claim.job.id, claim.lease, [{"id": "o"}]) for claim in claims]
    await bench.do("finish_many", successes)
    await bench.do("finish_many", successes)
    assert [job.id for job in told] == [claim.job.id for claim in claims[1:]]
    assert told[0].outputs == ({"id": "o"},)


async def test_cancelling_callers_at_any_moment_leaves_all_or_nothing(bench):
    insert = bench.database.grouped(bench.queue.insert_many)
    for number in range(15):
        new = [bench.new() for _ in range(3)]
        tasks = [asyncio.create_task(insert(one)) for one in new]
        for _ in range(number):
            await asyncio.sleep(0)
        tasks[1].cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await tasks[1]
        for task in (tasks[0], tasks[2]):
            job, created = await asyncio.wait_for(task, 5)
            assert created
            assert await bench.get(job.id) == job
        kept, _ = await asyncio.wait_for(bench.do("insert", new[1]), 5)
        assert (await bench.get(kept.id)).inputs == {}
    assert (await bench.look("counts"))["queued"] == 45


async def test_group_that_the_database_refuses_is_refused_to_all(new_database_url):
    async with await Database.open(new_database_url()) as database:
        await database.migrate()

        async def work(conn, items):
            raise DatabaseUnavailable("It is away.")

        grouped = database.grouped(work)
        database.run = lambda one, **_: one(None)  # no attempts by seconds
        answers = await asyncio.gather(*(grouped(n) for n in range(3)), return_exceptions=True)
    assert [type(answer) for answer in answers] == [DatabaseUnavailable] * 3


@pytest.mark.parametrize("most", [1, 4])
async def test_nothing_is_lost_between_groups(bench, most):
    seen = []

    async def work(conn, items):
        seen.append(len(items))
        return [item * 2 for item in items]

    grouped = bench.database.grouped(work, most=most)
    assert await asyncio.gather(*(grouped(n) for n in range(10))) == [n * 2 for n in range(10)]
    assert sum(seen) == 10
    assert max(seen) == most
