"""Workers stop, die, freeze and come back; each prompt runs once all the same."""

import asyncio

import pytest

from atelier.worker import dispatch, publication


async def wait_at_gate(service, gate, graph_of):
    id = await service.submit(graph_of(gate.node))
    await gate.reached()
    return id


async def die(dispatcher):
    """End a worker as SIGKILL does: nothing is released, nothing recorded."""
    dispatcher._stopped = True
    tasks = [*dispatcher._loops, *dispatcher._tasks]
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def test_stopping_lets_runs_end_within_the_grace_period(service, engine, graph_of, gates):
    gate = gates.new()
    async with service.worker(grace_seconds=10) as dispatcher:
        id = await wait_at_gate(service, gate, graph_of)
        stopping = asyncio.create_task(dispatcher.stop())
        await asyncio.sleep(0.1)
        late = await service.submit()
        gate.open()
        await stopping
        assert (await service.job(id)).status == "succeeded"
        assert (await service.job(late)).status == "queued"
    assert len(engine.posted) == 1


async def test_stopping_hands_waiting_jobs_back_uncounted(
    service, engine, graph_of, gates, eventually
):
    gate = gates.new()
    async with service.worker(grace_seconds=0) as dispatcher:
        running = await wait_at_gate(service, gate, graph_of)
        ids = [await service.submit() for _ in range(4)]
        # One is at the instance behind the first, one is prepared here, two are in the queue.
        await eventually(lambda: dispatcher.running == 3, "it did not claim ahead")
        await eventually(lambda: len(engine.posted) == 2, "the second is not there")
        await dispatcher.stop()
        jobs = [await service.job(id) for id in ids]
        assert [job.status for job in jobs] == ["running", "queued", "queued", "queued"]
        assert [job.attempts for job in jobs] == [1, 0, 0, 0]
    gate.open()
    async with service.worker():
        jobs = await service.succeeded(running, *ids)
    assert [job.attempts for job in jobs] == [1] * 5
    assert sorted(engine.posted.values()) == [1] * 5


async def test_waiting_jobs_are_handed_back_before_the_grace_period_ends(
    service, engine, graph_of, gates, eventually
):
    gate = gates.new()
    async with service.worker(grace_seconds=30) as dispatcher:
        ids = [await wait_at_gate(service, gate, graph_of)]
        ids += [await service.submit() for _ in range(2)]
        await eventually(lambda: dispatcher.running == 3, "it did not claim ahead")
        await eventually(lambda: len(engine.posted) == 2, "the second is not there")
        stopping = asyncio.create_task(dispatcher.stop())
        await service.becomes(ids[2], "queued")
        assert not stopping.done()
        gate.open()
        await stopping
        jobs = [await service.job(id) for id in ids]
    assert [job.status for job in jobs] == ["succeeded", "succeeded", "queued"]
    assert jobs[2].attempts == 0


async def test_next_worker_reattaches_to_what_still_runs(service, engine, graph_of, gates):
    gate = gates.new()
    async with service.worker(grace_seconds=0):
        id = await wait_at_gate(service, gate, graph_of)
    assert (await service.job(id)).status == "running"
    async with service.worker("w2"):
        await asyncio.sleep(0.3)
        gate.open()
        (job,) = await service.succeeded(id)
    assert (job.worker, job.attempts) == ("w2", 1)
    assert list(engine.posted.values()) == [1]
    assert gate.entered == 1


async def test_next_worker_takes_the_result_of_what_has_ended(
    service, engine, graph_of, gates, eventually
):
    gate = gates.new()
    async with service.worker(grace_seconds=0):
        id = await wait_at_gate(service, gate, graph_of)
    gate.open()
    prompt = (await service.job(id)).prompt_id
    (instance,) = service.pool.instances

    async def has_ended():
        return await instance.client.history(prompt) is not None

    await eventually(has_ended, "it did not end")
    async with service.worker("w2"):
        (job,) = await service.succeeded(id)
    assert (job.attempts, len(job.outputs)) == (1, 1)
    assert list(engine.posted.values()) == [1]


async def test_style_change_is_reattached_with_its_picture(
    service, engine, make_picture, eventually
):
    """The graph is bound again there without the names of the uploaded files."""
    asset = await service.assets.upload(make_picture(), filename=None, user="a")
    inputs = {"image": {"asset": asset.id}, "style": "cartoon"}
    async with service.worker() as dispatcher:
        id = await service.submit("style_change", inputs)
        await eventually(lambda: engine.posted, "nothing was sent")
        await die(dispatcher)
    async with service.worker():
        (job,) = await service.succeeded(id)
    assert (job.attempts, list(engine.posted.values())) == (1, [1])


@pytest.mark.parametrize("ended", [False, True])
async def test_worker_takes_over_when_the_lease_of_a_dead_one_runs_out(
    service, engine, graph_of, gates, ended
):
    gate = gates.new()
    async with service.worker("w1", lease_ms=400) as dispatcher:
        id = await wait_at_gate(service, gate, graph_of)
        before = await service.job(id)
        await die(dispatcher)
        if ended:
            gate.open()
        async with service.worker("w2", lease_ms=400):
            if not ended:
                await asyncio.sleep(0.6)
                gate.open()
            (job,) = await service.succeeded(id)
    assert (job.worker, job.attempts, job.prompt_id) == ("w2", 1, before.prompt_id)
    assert job.lease > before.lease
    assert list(engine.posted.values()) == [1]
    assert len(job.outputs) == 1


async def test_worker_that_comes_back_takes_up_its_own_jobs_at_once(
    service, engine, graph_of, gates
):
    gate = gates.new()
    async with service.worker("w1", lease_ms=60_000) as dispatcher:
        id = await wait_at_gate(service, gate, graph_of)
        await die(dispatcher)
        gate.open()
        async with service.worker("w1", lease_ms=60_000):
            await service.succeeded(id)
    assert list(engine.posted.values()) == [1]


async def test_claimed_job_that_was_never_sent_runs_after_a_crash(
    service, engine, graph_of, gates, eventually
):
    gate = gates.new()
    async with service.worker("w1") as dispatcher:
        ids = [await wait_at_gate(service, gate, graph_of)]
        ids += [await service.submit() for _ in range(2)]
        await eventually(lambda: dispatcher.running == 3, "it did not claim ahead")
        await eventually(lambda: len(engine.posted) == 2, "the second is not there")
        await die(dispatcher)
        gate.open()
        async with service.worker("w1"):
            await service.succeeded(*ids)
    assert sorted(engine.posted.values()) == [1, 1, 1]


async def test_instance_that_forgot_the_prompt_runs_it_again_after_a_crash(
    service, engine, graph_of, gates
):
    gate = gates.new()
    async with service.worker("w1") as dispatcher:
        id = await wait_at_gate(service, gate, graph_of)
        before = await service.job(id)
        await die(dispatcher)
        await engine.stop()
        await engine.start()
        gate.open()
        async with service.worker("w1"):
            (job,) = await service.succeeded(id)
    assert job.prompt_id != before.prompt_id
    assert job.attempts == 2
    assert sorted(engine.posted.values()) == [1, 1]


async def test_progress_goes_on_from_where_it_was(service, graph_of, gates, eventually):
    gate = gates.new()
    async with service.worker("w1") as dispatcher:
        id = await service.submit(
            graph_of(*[{"class_type": "ImageInvert", "inputs": {}}] * 3, gate.node)
        )
        await gate.reached()

        async def kept():
            # What is told of a running job may be newer than what its next worker will find.
            async with service.database.read() as conn:
                return (await service.queue.get(conn, id)).progress.percent > 50

        await eventually(kept, "progress is not kept")
        await die(dispatcher)
    before = (await service.job(id)).progress.percent
    service.published.clear()
    async with service.worker("w1"):
        await asyncio.sleep(0.4)
        assert (await service.job(id)).progress.percent >= before
        gate.open()
        await service.succeeded(id)
    percents = [event.data["percent"] for event in service.told(id, "progress")]
    assert percents == sorted(percents)
    assert percents[0] >= before


async def test_stale_worker_publishes_nothing_and_leaves_no_files(
    new_service, engine, graph_of, gates, monkeypatch, eventually
):
    """A worker that was frozen while another took over wakes up with a result in its hands."""
    service = await new_service(engine.url, owner="w1")
    other = await new_service(engine.url, owner="w2")
    gate = gates.new()
    frozen = asyncio.Event()
    collected = asyncio.Event()

    # Its result is stored, but neither recorded nor is the lease renewed any more.
    run = service.database.run

    async def stand_still(work, **options):
        if collected.is_set():
            await frozen.wait()
        return await run(work, **options)

    async def collect_then_stand_still(*arguments):
        assets = await collect(*arguments)
        collected.set()
        return assets

    collect = publication.collect
    monkeypatch.setattr(publication, "collect", collect_then_stand_still)
    service.database.run = stand_still
    async with service.worker("w1", lease_ms=300):
        id = await wait_at_gate(service, gate, graph_of)
        gate.open()
        await collected.wait()
        monkeypatch.setattr(publication, "collect", collect)
        kept_by_stale = set(service.stored_files())
        assert kept_by_stale
        async with other.worker("w2", lease_ms=5000):
            (job,) = await other.succeeded(id)
            frozen.set()

            await eventually(
                lambda: not kept_by_stale & set(service.stored_files()),
                "the stale worker's files are still there",
            )
    assert (job.worker, len(job.outputs)) == ("w2", 1)
    assert (await service.job(id)).outputs == job.outputs
    assert not service.told(id, "finished")
    assert len(service.stored_files()) == 2
    assert list(engine.posted.values()) == [1]
    content = await other.assets.open(job.outputs[0]["id"])
    assert content.info.size > 0


async def test_worker_that_lost_its_lease_lets_go(new_service, engine, graph_of, gates, eventually):
    service = await new_service(engine.url, owner="w1")
    gate = gates.new()
    async with service.worker("w1") as dispatcher:
        id = await wait_at_gate(service, gate, graph_of)
        lease = (await service.job(id)).lease

        async def take(conn):
            await service.queue.release_worker(conn, "w1")
            return await service.queue.reclaim(
                conn, worker="w2", instances=[(await service.queue.get(conn, id)).instance]
            )

        ((claim),) = await service.database.run(take)
        assert claim.lease == lease + 1
        await eventually(lambda: dispatcher.running == 0, "it holds on")
        job = await service.job(id)
    assert (job.status, job.worker, job.lease) == ("running", "w2", claim.lease)
    assert gate.entered == 1


async def test_job_of_an_instance_that_nobody_has_any_more_is_run_elsewhere(
    new_service, new_engine, graph_of, gates, monkeypatch
):
    gone, there = await new_engine(), await new_engine()
    service = await new_service(gone.url)
    gate = gates.new()
    async with service.worker("w1", lease_ms=200) as dispatcher:
        id = await wait_at_gate(service, gate, graph_of)
        await die(dispatcher)
        gate.open()
        other = await new_service(there.url, owner="w2")
        async with other.worker("w2", lease_ms=200):
            (job,) = await other.succeeded(id)
    assert job.instance == f"127.0.0.1:{there.port}"
    assert job.attempts == 1


async def test_keeping_leases_survives_what_nobody_foresaw(service, graph_of, gates, monkeypatch):
    gate = gates.new()
    renew, failures = service.queue.renew, []

    async def fail_once(*arguments, **named):
        if not failures:
            failures.append(1)
            raise RuntimeError("unforeseen")
        return await renew(*arguments, **named)

    monkeypatch.setattr(service.queue, "renew", fail_once)
    monkeypatch.setattr(dispatch, "RENEW_SECONDS", 0.05)
    async with service.worker(lease_ms=1000):
        id = await wait_at_gate(service, gate, graph_of)
        await asyncio.sleep(1.2)
        gate.open()
        (job,) = await service.succeeded(id)
    assert failures
    assert (job.lease, job.attempts) == (1, 1)


async def test_cancelled_job_of_an_instance_that_nobody_has_is_told_as_cancelled(
    new_service, new_engine, graph_of, gates, eventually
):
    gone, there = await new_engine(), await new_engine()
    service = await new_service(gone.url)
    gate = gates.new()
    async with service.worker("w1", lease_ms=200) as dispatcher:
        id = await wait_at_gate(service, gate, graph_of)
        await die(dispatcher)
        await service.generations.cancel(id)
        other = await new_service(there.url, owner="w2")
        async with other.worker("w2", lease_ms=200), other.listening(id) as heard:
            await eventually(lambda: heard and heard[-1].type == "cancelled", "nobody was told")
    assert (await service.job(id)).status == "cancelled"
    assert not there.posted
