import asyncio

import pytest
from sqlalchemy import func, select

from atelier.jobs.job import FieldUnusable
from atelier.jobs.tables import job_details, jobs


async def test_job_is_kept_as_it_was_given(bench):
    job = await bench.put(
        user="ada",
        inputs={"image": {"asset": "a"}, "strength": 0.6, "list": [1, None, "é"]},
        graph={"1": {"class_type": "LoadImage", "inputs": {"image": "x.png"}}},
        metadata={"batch": "b1", "style": "clay", "note": "nul \0 and 😀"},
        seed=2**53 - 1,
        priority=5,
        variant="classic",
        model="sd15.safetensors",
        max_attempts=7,
        dialect="transform",
        estimate_ms=1500,
    )
    kept = await bench.get(job.id)
    assert kept == job
    assert kept.inputs["strength"] == 0.6
    assert kept.metadata["note"] == "nul \0 and 😀"
    assert (kept.priority, kept.seed, kept.batch, kept.label) == (5, 2**53 - 1, "b1", "clay")


async def test_time_of_arrival_is_the_databases(bench):
    job = await bench.put()
    assert job.created_at_ms == job.updated_at_ms == job.run_after_ms
    assert job.created_at_ms > 1_700_000_000_000


async def test_graph_longer_than_64_kib_is_kept_whole(bench):
    graph = {"1": {"class_type": "X", "inputs": {"mask": "m" * 300_000}}}
    job = await bench.put(graph=graph)
    assert (await bench.get(job.id)).graph == graph


async def test_same_key_of_one_user_gives_the_first_job(bench):
    first, created = await bench.do("insert", bench.new(idempotency_key="k", seed=1))
    again, created_again = await bench.do("insert", bench.new(idempotency_key="k", seed=2))
    assert (created, created_again) == (True, False)
    assert again == first


async def test_keys_of_two_users_are_apart(bench):
    await bench.put(user="ada", idempotency_key="k")
    await bench.put(user="bob", idempotency_key="k")


@pytest.mark.parametrize("other", ["Ada", "ada ", "àda", "ada\n"])
async def test_users_differ_by_case_accent_and_trailing_space(bench, other):
    await bench.put(user="ada", idempotency_key="k")
    await bench.put(user=other, idempotency_key="k")
    page = await bench.look("list", user=other)
    assert [job.user for job in page.jobs] == [other]


async def test_simultaneous_inserts_with_one_key_give_one_job(bench):
    answers = await asyncio.gather(
        *(bench.do("insert", bench.new(idempotency_key="k")) for _ in range(8))
    )
    assert len({job.id for job, _ in answers}) == 1
    assert sum(created for _, created in answers) == 1
    async with bench.database.read() as conn:
        for table in (jobs, job_details):
            assert await conn.scalar(select(func.count()).select_from(table)) == 1


async def test_insert_repeated_after_a_lost_answer_changes_nothing(bench):
    new = bench.new(idempotency_key="k")
    first = await bench.do("insert", new)
    assert await bench.do("insert", new) == first
    assert await bench.do("insert_many", [new, bench.new()]) is not None
    assert sum((await bench.look("counts")).values()) == 2


async def test_insert_that_is_rolled_back_leaves_nothing(bench):
    async def work(conn):
        await bench.queue.insert(conn, bench.new())
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await bench.database.run(work)
    assert sum((await bench.look("counts")).values()) == 0


async def test_batch_is_queued_in_its_order(bench):
    new = [bench.new(metadata={"place": place}) for place in range(30)]
    # Ids in another order than the list: the list decides.
    inserted = await bench.do("insert_many", new[::-1])
    assert [job.metadata["place"] for job, _ in inserted] == list(range(30))[::-1]
    claims = [await bench.claim() for _ in range(30)]
    assert [claim.job.metadata["place"] for claim in claims] == list(range(30))[::-1]


async def test_batch_with_keys_keeps_each_key_once(bench):
    await bench.put(idempotency_key="k1")
    batch = [bench.new(idempotency_key=key) for key in ("k1", "k2", "k2")]
    created = [created for _, created in await bench.do("insert_many", batch)]
    assert created == [False, True, False]


@pytest.mark.parametrize(
    ("field", "value"), [("user", "a" * 256), ("user", "a\0b"), ("idempotency_key", "k" * 256)]
)
def test_text_that_no_column_holds_is_refused_by_name(bench, field, value):
    with pytest.raises(FieldUnusable) as caught:
        bench.new(**{field: value})
    assert caught.value.data["field"] == field


async def test_requirement_is_kept_once_under_its_hash(bench):
    await asyncio.gather(*(bench.do("put_requirement", "h", {"n": 1}) for _ in range(4)))
    assert await bench.look("requirements", ["h", "unknown"]) == {"h": {"n": 1}}
    assert await bench.look("requirements", []) == {}
