"""What waits, by lane, and claims of what stands first in one."""

import asyncio
from collections import Counter
from dataclasses import replace

import pytest
from sqlalchemy import text, update

from atelier.jobs.job import NewJob
from atelier.jobs.lanes import Lane, Waiting, lane_id, lane_of, user_prefix
from atelier.jobs.queue import Ask
from atelier.jobs.tables import jobs


def lane(bench, **fields) -> Lane:
    return lane_of(bench.new(**fields))


async def test_jobs_that_are_alike_share_a_lane(bench):
    first = await bench.put(user="ada", model="m")
    await bench.put(user="ada", model="m", seed=5)
    await bench.put(user="bob", model="m", weight=2.5, priority=3, variant="v")
    waiting = {one.lane.user: one for one in await bench.look("waiting")}
    expected = lane(bench, user="ada", model="m")
    assert waiting["ada"] == Waiting(expected, 2, first.created_at_ms, first.created_at_ms * 1000)
    bobs = lane(bench, user="bob", model="m", weight=2.5, priority=3, variant="v")
    assert (waiting["bob"].lane, waiting["bob"].count) == (bobs, 1)


@pytest.mark.parametrize(
    "other",
    [
        {"user": "bob"},
        {"priority": 1},
        {"weight": 2.0},
        {"model": "m2"},
        {"model": None},
        {"requirement": "r2"},
        {"workflow": "w2"},
        {"variant": "v"},
    ],
)
async def test_each_field_of_the_choice_parts_lanes(bench, other):
    await bench.put(model="m")
    await bench.put(**({"model": "m"} | other))
    assert len({one.lane.id for one in await bench.look("waiting")}) == 2


async def test_another_process_learns_lanes_from_the_database(bench):
    await bench.put(user="ada", weight=0.3, model="m", variant="v", priority=-2)
    stranger = type(bench.queue)(bench.queue.dialect)
    async with bench.database.read() as conn:
        [seen] = await stranger.waiting(conn)
    assert seen.lane == lane(bench, user="ada", weight=0.3, model="m", variant="v", priority=-2)


async def test_job_that_waits_for_a_retry_is_not_counted(bench):
    claim = await bench.claimed()
    await bench.do("retry", claim.job.id, claim.lease, {"code": "X"}, 60_000)
    assert await bench.look("waiting") == []
    assert await bench.do("claim_lane", worker="w", instance="i", lane=lane(bench).id) == []
    await bench.let_run(claim.job.id)
    [one] = await bench.look("waiting")
    assert (one.count, one.oldest_ms) == (1, claim.job.created_at_ms)


async def test_lane_is_served_in_order_of_arrival(bench):
    ids = [(await bench.put()).id for _ in range(4)]
    await bench.put(user="bob")
    lane_id = lane(bench).id
    [first] = await bench.do("claim_lane", worker="w1", instance="gpu-1", lane=lane_id)
    rest = await bench.do("claim_lane", worker="w1", instance="gpu-1", lane=lane_id, limit=9)
    assert [claim.job.id for claim in (first, *rest)] == ids
    assert first.job == await bench.get(first.job.id)
    assert len({claim.prompt_id for claim in (first, *rest)}) == 4
    assert (first.job.status, first.job.worker, first.job.instance) == ("running", "w1", "gpu-1")
    assert (first.lease, first.job.attempts) == (1, 1)
    assert [one.lane.user for one in await bench.look("waiting")] == ["bob"]


async def test_several_asks_are_answered_each_by_itself(bench):
    mine = [(await bench.put(user="ada")).id for _ in range(3)]
    other = (await bench.put(user="bob")).id
    ada, bob = lane(bench, user="ada").id, lane(bench, user="bob").id
    asks = [Ask(ada, "a"), Ask(bob, "a", 5), Ask(ada, "b"), Ask(ada, "a"), Ask(ada, "b")]
    claims = await bench.do("claim_lanes", worker="w", asks=asks)
    places = [[(claim.job.id, claim.job.instance) for claim in some] for some in claims]
    assert [len(some) for some in places] == [1, 1, 1, 1, 0]
    assert places[1] == [(other, "a")]
    assert {id for some in places for id, _ in some} == {*mine, other}
    for some in claims:
        for claim in some:
            assert claim.job == await bench.get(claim.job.id)


async def test_two_workers_never_claim_the_same_job_of_a_lane(bench):
    inserted = await bench.do("insert_many", [bench.new() for _ in range(30)])
    lane_id = lane(bench).id

    async def work(name):
        taken = []
        while len(taken) < 30:
            claims = await bench.do("claim_lane", worker=name, instance="i", lane=lane_id, limit=2)
            taken += [claim.job.id for claim in claims]
            if not claims and not await bench.look("waiting"):
                break
        return taken

    taken = await asyncio.gather(*(work(f"w{number}") for number in range(4)))
    times = Counter(id for ids in taken for id in ids)
    assert times == Counter(job.id for job, _ in inserted)


async def test_job_that_had_better_go_elsewhere_is_taken_only_where_asked(bench):
    claim = await bench.claimed()
    await bench.do("retry", claim.job.id, claim.lease, {"code": "X"}, 0, "gpu-1")
    behind = await bench.put()
    wish = {"worker": "w", "lane": lane(bench).id}
    [taken] = await bench.do("claim_lane", instance="gpu-1", **wish)
    assert taken.job.id == behind.id
    assert await bench.do("claim_lane", instance="gpu-1", **wish) == []
    [one] = await bench.look("waiting")
    assert one.count == 1
    [taken] = await bench.do("claim_lane", instance="gpu-1", avoided=True, **wish)
    assert taken.job.id == claim.job.id


async def forget_lanes(bench) -> None:
    """As a version queues that knows no lanes."""
    await bench.database.run(lambda conn: conn.execute(update(jobs).values(lane=None)))


async def test_jobs_without_a_lane_are_given_theirs_when_they_are_seen(bench):
    first = await bench.put(model="m")
    await bench.put(user="bob")
    await forget_lanes(bench)
    second = await bench.put(model="m")
    waiting = {one.lane.user: one for one in await bench.look("waiting")}
    assert waiting["ada"].lane == lane(bench, model="m")
    assert (waiting["ada"].count, waiting["ada"].oldest_ms) == (2, first.created_at_ms)
    assert waiting["bob"].count == 1
    wish = {"worker": "w", "instance": "i", "lane": waiting["ada"].lane.id, "limit": 5}
    claims = await bench.do("claim_lane", **wish)
    assert [claim.job.id for claim in claims] == [first.id, second.id]
    [left] = await bench.look("waiting")
    assert left.lane.user == "bob"
    assert await bench.do("adopt") == 0


async def test_lane_is_kept_under_the_id_that_it_has(bench):
    job = await bench.put()
    await bench.database.run(
        lambda conn: conn.execute(update(jobs).where(jobs.c.id == job.id).values(lane="f" * 32))
    )
    [one] = await bench.look("waiting")
    assert one.lane == replace(lane(bench), id="f" * 32)
    [claim] = await bench.do("claim_lane", worker="w", instance="i", lane="f" * 32)
    assert claim.job.id == job.id


async def test_lanes_of_a_user_are_one_range():
    def of(**fields) -> str:
        alike = {
            "priority": 0,
            "user": "ada",
            "weight": 1.0,
            "model": None,
            "requirement": "r",
            "workflow": "w",
            "variant": None,
        }
        return lane_id(**(alike | fields))

    assert len(of()) == 32
    assert of().startswith(user_prefix("ada"))
    assert of(model="m").startswith(user_prefix("ada"))
    assert not of(user="bob").startswith(user_prefix("ada"))
    assert of(weight=1) == of(weight=1.0)
    assert of(model="") != of(model=None)


async def test_what_waits_is_read_from_the_index_alone(bench):
    await bench.do("insert_many", [bench.new() for _ in range(50)])
    await explained(
        bench,
        "SELECT lane, COUNT(*), MIN(seq) FROM jobs WHERE status = 'queued'"
        " AND run_after_ms <= 1 GROUP BY lane",
        {"sqlite": "COVERING INDEX", "postgresql": "Index Only Scan", "mysql": "Using index"},
    )
    await explained(
        bench,
        "SELECT id FROM jobs WHERE status = 'queued' AND lane = 'x' AND run_after_ms <= 1"
        " ORDER BY seq, id LIMIT 3",
        {"sqlite": "COVERING INDEX", "postgresql": "Index Only Scan", "mysql": "Using index"},
    )


async def explained(bench, query: str, expected: dict[str, str]) -> None:
    plan = {"sqlite": "EXPLAIN QUERY PLAN ", "postgresql": "EXPLAIN ", "mysql": "EXPLAIN "}
    dialect = bench.database.dialect
    async with bench.database.transaction() as conn:
        if dialect == "postgresql":
            # A small table is cheaper to read whole; what counts is that the index fits.
            for setting in ("seqscan", "sort", "bitmapscan", "hashagg"):
                await conn.execute(text(f"SET LOCAL enable_{setting} = off"))
        rows = await conn.execute(text(plan[dialect] + query))
        found = "\n".join(str(tuple(row)) for row in rows)
    assert "jobs_lanes_idx" in found
    assert expected[dialect] in found
    for sorting in ("TEMP B-TREE", "Sort", "filesort", "temporary"):
        assert sorting not in found


def test_lane_of_a_new_job_has_its_fields():
    new = NewJob(id="1", user="u", workflow="w", workflow_version="1", requirement="r", priority=4)
    one = lane_of(new)
    assert (one.user, one.workflow, one.requirement, one.priority) == ("u", "w", "r", 4)
