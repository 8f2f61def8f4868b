"""What users have had, and how long jobs run: written as deltas by many workers."""

import asyncio

import pytest

from atelier.jobs.queue import RunKey, RunTime


async def test_charges_add_up(bench):
    await asyncio.gather(*(bench.do("charge", {"ada": 10.0, "bob": 2.5}) for _ in range(8)))
    await bench.do("charge", {"ada": -20.0})
    found = await bench.look("shares", ["ada", "bob", "eve"])
    assert found.virtual_ms == {"ada": 60.0, "bob": 20.0}
    assert found.running == {}


async def test_who_returns_starts_where_the_others_are(bench):
    await bench.do("charge", {"ada": 1000.0})
    await bench.do("charge", {"bob": 5.0, "ada": 1.0}, at_least_ms={"bob": 900.0, "ada": 900.0})
    await bench.do("charge", {"bob": 5.0}, at_least_ms={"bob": 100.0})
    found = await bench.look("shares", ["ada", "bob"])
    assert found.virtual_ms == {"ada": 1001.0, "bob": 910.0}


async def test_running_jobs_are_counted_by_user(bench):
    for user in ("ada", "ada", "bob"):
        await bench.claimed(user=user)
    await bench.put(user="eve")
    await bench.do("charge", {"bob": 7.0})
    found = await bench.look("shares", [])
    assert found.running == {"ada": 2, "bob": 1}
    assert found.virtual_ms == {"bob": 7.0}


async def test_shares_that_nobody_uses_are_forgotten(bench):
    await bench.do("charge", {"ada": 1.0})
    assert await bench.do("forget_shares", age_ms=60_000) == 0
    assert await bench.do("forget_shares", age_ms=-60_000) == 1
    assert (await bench.look("shares", ["ada"])).virtual_ms == {}


async def test_run_times_move_with_what_is_seen(bench):
    key, other = RunKey("w", None, "gpu-1"), RunKey("w", "v", "gpu-1")
    await bench.do("learn", {key: RunTime(1000.0, 1), other: RunTime(50.0, 3)})
    await bench.do("learn", {key: RunTime(2000.0, 1)})
    found = await bench.look("run_times")
    assert found[key] == RunTime(pytest.approx(1200.0), 2)
    assert found[other] == RunTime(50.0, 3)


async def test_runs_that_are_told_together_count_as_one_by_one(bench):
    key, other = RunKey("w", None, "a"), RunKey("w", None, "b")
    await bench.do("learn", {key: RunTime(1000.0, 1), other: RunTime(1000.0, 1)})
    await bench.do("learn", {key: RunTime(500.0, 3)})
    for _ in range(3):
        await bench.do("learn", {other: RunTime(500.0, 1)})
    found = await bench.look("run_times")
    assert found[key].mean_ms == pytest.approx(found[other].mean_ms)
    assert found[key].runs == found[other].runs == 4


async def test_run_times_of_what_is_gone_are_forgotten(bench):
    await bench.do("learn", {RunKey("w", None, "a"): RunTime(1.0, 1)})
    assert await bench.do("forget_run_times", age_ms=60_000) == 0
    assert await bench.do("forget_run_times", age_ms=-60_000) == 1
    assert await bench.look("run_times") == {}
