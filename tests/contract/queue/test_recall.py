"""What an earlier job made answers a later one, on every database."""

import pytest
import uuid_utils
from sqlalchemy import text

from atelier.jobs.job import Recalled

KEY = "k" * 64
RECALLED = Recalled("original", ({"id": "o2", "width": 64},), ({"id": "p2"},), "classic")


def new_id():
    return str(uuid_utils.uuid7())


async def finished(bench, key=KEY, **fields):
    claim = await bench.claimed(**fields)
    outputs = [{"id": "o1"}]
    assert await bench.do("finish", claim.job.id, claim.lease, outputs, cache_key=key)
    return claim.job.id


async def test_finished_job_carries_previews_and_whose_they_are(bench):
    claim = await bench.claimed(conversion={"format": "webp"}, cache=True)
    assert (claim.job.conversion, claim.job.cache) == ({"format": "webp"}, True)
    assert await bench.do(
        "finish",
        claim.job.id,
        claim.lease,
        [{"id": "o"}],
        previews=[{"id": "p"}],
        cached_from="another",
    )
    job = await bench.get(claim.job.id)
    assert (job.previews, job.cached_from) == (({"id": "p"},), "another")
    assert (job.conversion, job.cache) == ({"format": "webp"}, True)


async def test_job_of_a_version_that_knew_no_cache_reads_as_before(bench):
    job = await bench.put()
    async with bench.database.transaction() as conn:
        await conn.execute(text("UPDATE job_details SET cache = NULL, previews = NULL"))
    job = await bench.get(job.id)
    assert (job.cache, job.previews, job.conversion, job.cached_from) == (False, (), None, None)


async def test_jobs_that_succeeded_are_found_by_what_they_ran_newest_first(bench):
    first, second = await finished(bench), await finished(bench)
    await finished(bench, key="other")
    await finished(bench, key=None)
    claim = await bench.claimed()
    await bench.do("fail", claim.job.id, claim.lease, {"code": "X"})
    found = await bench.look("made_before", KEY, unlike=new_id())
    assert [job.id for job in found] == [second, first]
    assert found[0].outputs == ({"id": "o1"},)
    assert [job.id for job in await bench.look("made_before", KEY, unlike=second)] == [first]


async def test_deleted_job_is_not_found_and_the_next_is(bench):
    first, second = await finished(bench), await finished(bench)
    await bench.do("delete", second)
    assert [job.id for job in await bench.look("made_before", KEY, unlike="x")] == [first]


async def test_only_the_newest_few_are_looked_at(bench):
    ids = [await finished(bench) for _ in range(5)]
    found = await bench.look("made_before", KEY, unlike="x")
    assert [job.id for job in found] == ids[:1:-1]


async def test_answered_job_has_succeeded_without_a_start(bench):
    new = bench.new(seed=7, cache=True, variant="diffusion", metadata={"a": 1})
    job, created = await bench.do("insert_recalled", new, RECALLED, KEY)
    assert created
    kept = await bench.get(new.id)
    assert kept == job
    assert (job.status, job.progress.percent, job.variant) == ("succeeded", 100, "classic")
    assert (job.outputs, job.previews) == (RECALLED.outputs, RECALLED.previews)
    assert (job.cached_from, job.seed, job.attempts) == ("original", 7, 0)
    assert (job.started_at_ms, job.finished_at_ms) == (None, job.created_at_ms)
    assert set(job.timings.values()) == {0}
    assert await bench.claim() is None
    assert (await bench.look("counts"))["succeeded"] == 1
    stats = await bench.look("stats")
    assert (stats.run.count, stats.wait.count) == (0, 0), "times are of jobs that ran"


async def test_answered_job_answers_the_next(bench):
    new = bench.new()
    await bench.do("insert_recalled", new, RECALLED, KEY)
    assert [job.id for job in await bench.look("made_before", KEY, unlike="x")] == [new.id]


async def test_answering_again_changes_nothing(bench):
    new = bench.new()
    first = await bench.do("insert_recalled", new, RECALLED, KEY)
    assert await bench.do("insert_recalled", new, RECALLED, KEY) == first


async def test_idempotency_key_gives_the_first_job_whether_answered_or_queued(bench):
    queued = await bench.put(idempotency_key="k")
    job, created = await bench.do("insert_recalled", bench.new(idempotency_key="k"), RECALLED, KEY)
    assert (job.id, created) == (queued.id, False)
    answered = bench.new(idempotency_key="l")
    await bench.do("insert_recalled", answered, RECALLED, KEY)
    job, created = await bench.do("insert", bench.new(idempotency_key="l"))
    assert (job.id, job.status, created) == (answered.id, "succeeded", False)


@pytest.mark.parametrize("action", ["cancel", "requeue"])
async def test_answered_job_has_ended(bench, action):
    new = bench.new()
    await bench.do("insert_recalled", new, RECALLED, KEY)
    assert await bench.do(action, new.id) in ("already", False)
    assert await bench.status(new.id) == "succeeded"


async def test_what_was_made_is_found_by_an_index(bench):
    for _ in range(3):
        await finished(bench)
    await bench.do("insert_many", [bench.new() for _ in range(50)])
    explain = {"sqlite": "EXPLAIN QUERY PLAN ", "postgresql": "EXPLAIN ", "mysql": "EXPLAIN "}
    query = f"SELECT job_id FROM job_details WHERE cache_key = '{KEY}'"
    async with bench.database.transaction() as conn:
        if bench.database.dialect == "postgresql":
            await conn.execute(text("SET LOCAL enable_seqscan = off"))
        rows = await conn.execute(text(explain[bench.database.dialect] + query))
        explained = "\n".join(str(tuple(row)) for row in rows)
    assert "job_details_cache_key_idx" in explained
