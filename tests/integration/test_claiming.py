"""Whose job goes next, to which instance, and when."""

import asyncio

import pytest

from atelier.database import DatabaseUnavailable
from atelier.worker import dispatch as dispatch_module


async def started(service, *ids):
    """The jobs in the order in which they were begun."""
    jobs = await service.succeeded(*ids)
    return [job.user for job in sorted(jobs, key=lambda job: job.started_at_ms)]


async def test_one_users_many_jobs_do_not_delay_anothers_first(service, graph_of, gates):
    gate = gates.new()
    many = [await service.submit(graph_of(gate.node), user="many") for _ in range(8)]
    async with service.worker():
        await gate.reached()
        one = await service.submit(graph_of(gate.node), user="one")
        gate.open()
        order = await started(service, *many, one)
    # Those that were claimed before it came: one that runs, one there, one ahead.
    assert order.index("one") <= 3


async def test_higher_priority_goes_first(service, graph_of, gates):
    gate = gates.new()
    low = [await service.submit(graph_of(gate.node), user="low") for _ in range(6)]
    async with service.worker():
        await gate.reached()
        high = await service.submit(graph_of(gate.node), user="high", priority=5)
        gate.open()
        order = await started(service, *low, high)
    assert order.index("high") <= 3


async def test_no_more_of_one_user_run_than_may(new_service, new_engine, graph_of, gates):
    first, second = await new_engine(), await new_engine()
    service = await new_service(first.url, second.url)
    gate = gates.new()
    greedy = [await service.submit(graph_of(gate.node), user="greedy") for _ in range(3)]
    other = await service.submit(graph_of(gate.node), user="other")
    async with service.worker(max_running_per_user=1):
        await service.becomes(other, "running")
        await gate.reached(2)
        jobs = [await service.job(id) for id in greedy]
        assert sorted(job.status for job in jobs) == ["queued", "queued", "running"]
        gate.open()
        await service.succeeded(*greedy, other)


async def test_next_job_is_not_bound_to_an_instance_that_is_busy_for_long(service, graph_of, gates):
    gate = gates.new()
    first, second = [await service.submit(graph_of(gate.node)) for _ in range(2)]
    job = await service.job(first)
    service.pool.instances[0].usage.work.learn(job.workflow, job.variant, 60_000)
    async with service.worker():
        await gate.reached()
        await asyncio.sleep(3 * dispatch_module.POLL_SECONDS)
        assert (await service.job(second)).status == "queued"
        gate.open()
        # Sooner than expected: the seat is filled when the run ends, not when it should have.
        await service.succeeded(first, second)


async def test_next_job_is_there_when_the_last_one_ends(service, graph_of, gates):
    gate = gates.new()
    first, second = [await service.submit(graph_of(gate.node)) for _ in range(2)]
    async with service.worker():
        await gate.reached()
        await service.becomes(second, "running")
        assert (await service.job(first)).status == "running"
        gate.open()
        await service.succeeded(first, second)


async def test_what_users_had_and_how_long_runs_took_is_written_down(service, graph_of, eventually):
    ids = [await service.submit(graph_of(), user=user) for user in ("a", "a", "b")]
    async with service.worker() as dispatcher:
        jobs = await service.succeeded(*ids)
        await eventually(lambda: not dispatcher.running, "runs go on")
        await dispatcher.claiming.tell()
        async with service.database.read() as conn:
            shares = await service.queue.shares(conn, {"a", "b"})
            times = await service.queue.run_times(conn)
    took = dict.fromkeys(("a", "b"), 0)
    for job in jobs:
        took[job.user] += job.timings["execute_ms"]
    # Charged at the start by what was expected, corrected at the end to what it was.
    base = min(shares.virtual_ms.values())
    assert shares.virtual_ms["a"] - base <= took["a"] + took["b"] + 50
    assert sum(time.runs for time in times.values()) == 3
    assert {key.instance for key in times} == {service.pool.instances[0].id}


async def test_charges_that_could_not_be_written_are_kept(service, graph_of, monkeypatch):
    (id,) = [await service.submit(graph_of(), user="a")]
    async with service.worker() as dispatcher:
        await service.succeeded(id)

        async def refuse(*_args, **_kw):
            raise DatabaseUnavailable("away")

        with monkeypatch.context() as away:
            away.setattr(service.queue, "charge", refuse)
            away.setattr(service.queue, "learn", refuse)
            before = dict(dispatcher.claiming.owed)
            assert before
            with pytest.raises(DatabaseUnavailable):
                await dispatcher.claiming.tell()
            assert dispatcher.claiming.owed.keys() == before.keys()
        await dispatcher.claiming.tell()
        assert not dispatcher.claiming.owed


async def test_out_of_memory_is_tried_once_elsewhere(new_service, new_engine, graph_of, make_node):
    first, second = await new_engine(), await new_engine()
    service = await new_service(first.url, second.url)
    async with service.worker():
        id = await service.submit(graph_of(make_node("TestExhaust", reason="no")))
        (job,) = await service.ended(id)
    assert (job.status, job.error["code"], job.attempts) == ("failed", "OUT_OF_MEMORY", 2)
    assert (len(first.posted), len(second.posted)) == (1, 1)
