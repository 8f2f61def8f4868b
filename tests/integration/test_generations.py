"""Submitting, waiting, following: what the dialects are built on."""

import asyncio
import time

import pytest

from atelier.errors import AtelierError
from atelier.service import Submission, positions
from atelier.service.generations import IdempotencyKeyReused, JobNotEnded, JobUnknown


async def test_same_key_replays_the_first_answer(service, graph_of):
    submission = Submission(graph_of(), user="anna", idempotency_key="k1")
    first, created = await service.generations.submit(submission)
    again, created_again = await service.generations.submit(submission)
    assert (created, created_again) == (True, False)
    assert again.job.id == first.job.id
    assert [event.type for event in service.told(first.job.id)] == ["queued"]
    async with service.worker():
        await service.succeeded(first.job.id)
    after, _ = await service.generations.submit(submission)
    assert (after.job.id, after.job.status) == (first.job.id, "succeeded")
    assert len(after.outputs) == 1


async def test_same_key_replays_although_a_seed_was_drawn(service):
    inputs = {"image": {"asset": "x"}, "style": "clay"}
    submission = Submission("style_change", inputs, idempotency_key="k1")
    first, _ = await service.generations.submit(submission)
    again, _ = await service.generations.submit(submission)
    assert (again.job.id, again.job.seed) == (first.job.id, first.job.seed)


async def test_same_key_with_another_request_is_a_conflict(service, graph_of):
    await service.generations.submit(Submission(graph_of(), idempotency_key="k1"))
    with pytest.raises(IdempotencyKeyReused):
        await service.generations.submit(Submission(graph_of(), priority=3, idempotency_key="k1"))


async def test_same_key_of_two_users_makes_two_jobs(service, graph_of):
    graph = graph_of()
    ids = set()
    for user in ("anna", "bert"):
        view, created = await service.generations.submit(
            Submission(graph, user=user, idempotency_key="k1")
        )
        assert created
        ids.add(view.job.id)
    assert len(ids) == 2


async def test_same_key_at_the_same_time_makes_one_job(service, graph_of):
    submission = Submission(graph_of(), idempotency_key="k1")
    results = await asyncio.gather(*(service.generations.submit(submission) for _ in range(8)))
    assert sum(created for _, created in results) == 1
    assert len({view.job.id for view, _ in results}) == 1


async def test_batch_accepts_and_refuses_each_by_itself(service, graph_of):
    good, bad = Submission(graph_of()), Submission("no_such")
    results = await service.generations.submit_many([good, bad, good])
    assert isinstance(results[1], AtelierError)
    assert results[1].code == "WORKFLOW_UNKNOWN"
    assert [result.queue_position for result in (results[0], results[2])] == [1, 2]


async def test_wait_returns_as_soon_as_the_job_has_ended(service, graph_of, gates):
    gate = gates.new()
    async with service.worker():
        id = await service.submit(graph_of(gate.node))
        await gate.reached()
        waiting = asyncio.create_task(service.generations.wait(id, 30))
        await asyncio.sleep(0.05)
        assert not waiting.done()
        started = time.monotonic()
        gate.open()
        view = await waiting
        assert view.job.status == "succeeded"
        assert time.monotonic() - started < 2


async def test_wait_returns_the_present_state_at_the_time_out(service, graph_of, gates):
    gate = gates.new()
    id = await service.submit(graph_of(gate.node))
    waiting = asyncio.create_task(service.generations.wait(id, 0.5))
    await asyncio.sleep(0.05)
    async with service.worker():
        await gate.reached()
        view = await waiting
        gate.open()
    assert view.job.status == "running", "not as it was half a second ago"


async def test_wait_for_a_job_that_has_ended_returns_at_once(service):
    id = await service.submit()
    await service.generations.cancel(id)
    assert (await service.generations.wait(id, 30)).job.status == "cancelled"


async def test_unknown_job_can_not_be_waited_for_or_followed(service):
    with pytest.raises(JobUnknown):
        await service.generations.wait("0197d2b0-0000-7000-8000-000000000000", 1)
    with pytest.raises(JobUnknown):
        async with service.generations.follow(job="0197d2b0-0000-7000-8000-000000000000"):
            pass


async def test_following_begins_with_the_present_state(service, graph_of, gates, eventually):
    gate = gates.new()
    id = await service.submit(graph_of(gate.node))
    async with service.listening(id) as heard:
        await eventually(lambda: heard, "no snapshot")
    assert heard[0].type == "snapshot"
    assert heard[0].data["status"] == "queued"
    assert heard[0].data["queue"]["position"] == 1
    async with service.worker():
        await gate.reached()
        async with service.listening(id) as heard:
            await eventually(lambda: heard, "no snapshot")
        assert heard[0].data["status"] == "running"
        assert heard[0].data["instance"]
        gate.open()
        await service.succeeded(id)
    async with service.listening(id) as heard:
        await eventually(lambda: heard, "no snapshot")
    assert heard[0].data["status"] == "succeeded"
    assert heard[0].ends
    assert len(heard[0].data["outputs"]) == 1


async def test_following_resumes_behind_the_last_event(service, eventually):
    id = await service.submit()
    async with service.listening(id) as heard:
        async with service.worker():
            await service.succeeded(id)
        await eventually(lambda: heard[-1].type == "finished", "no terminal event")
    (started,) = [event for event in heard if event.type == "started"]
    async with service.listening(id, last_event_id=started.id) as missed:
        await eventually(lambda: missed and missed[-1].type == "finished", "nothing was missed")
    assert "snapshot" not in [event.type for event in missed]
    assert all(event.order > started.order for event in missed)
    async with service.listening(id, last_event_id="5-0") as unknown:
        await eventually(lambda: unknown, "no snapshot")
    assert unknown[0].type == "snapshot", "what cannot be resumed begins anew"


async def test_user_hears_of_all_of_his_jobs_and_of_nobody_elses(service, eventually):
    heard = []
    before = await service.submit(user="anna")

    async def listen():
        async with service.generations.follow(user="anna") as subscription:
            async for event in subscription:
                heard.append(event)  # noqa: PERF401  (seen while it fills)

    listening = asyncio.create_task(listen())
    await eventually(lambda: heard, "no snapshot")
    assert (heard[0].type, heard[0].job) == ("snapshot", before)
    async with service.worker():
        ids = [before, await service.submit(user="anna")]
        other = await service.submit(user="bert")
        await service.succeeded(*ids, other)
        await eventually(
            lambda: {e.job for e in heard if e.type == "finished"} == set(ids), "not all ended"
        )
    listening.cancel()
    await asyncio.gather(listening, return_exceptions=True)
    assert {event.user for event in heard} == {"anna"}


async def test_failed_job_is_tried_again_on_request(service, graph_of, make_node):
    async with service.worker():
        id = await service.submit(graph_of(make_node("TestFail", reason="x")))
        await service.failed(id)
    # With a worker about, it could run again before the answer is put together.
    view = await service.generations.retry(id)
    assert (view.job.status, view.job.error, view.job.attempts) == ("queued", None, 0)
    async with service.worker():
        await service.failed(id)


async def test_only_ended_jobs_are_retried_or_deleted(service):
    id = await service.submit()
    with pytest.raises(JobNotEnded):
        await service.generations.retry(id)
    with pytest.raises(JobNotEnded):
        await service.generations.delete(id)
    async with service.worker():
        await service.succeeded(id)
    with pytest.raises(JobNotEnded):
        await service.generations.retry(id)
    await service.generations.delete(id)
    with pytest.raises(JobUnknown):
        await service.generations.get(id)


async def test_places_in_the_queue_are_told_while_somebody_listens(
    service, monkeypatch, eventually
):
    monkeypatch.setattr(positions, "EVERY_SECONDS", 0.05)
    first, second = await service.submit(), await service.submit()
    service.estimates.learn("inline", "graph", 2000)
    teller = positions.PositionTeller(
        database=service.database,
        queue=service.queue,
        bus=service.bus,
        outlook=service.outlook,
    )
    telling = asyncio.create_task(teller.run())
    try:
        await asyncio.sleep(0.15)
        await service.generations.cancel(first)
        await asyncio.sleep(0.15)
        assert not service.told(second, "position"), "nobody listened"
        third = await service.submit()
        async with service.listening(third) as heard:
            await asyncio.sleep(0.15)
            await service.generations.cancel(second)
            await eventually(lambda: heard[-1].type == "position", "nothing was told")
    finally:
        telling.cancel()
        await asyncio.gather(telling, return_exceptions=True)
    assert heard[-1].data["queue"]["position"] == 1
    assert heard[-1].data["queue"]["eta_seconds"] > 0


async def test_run_times_are_learned_and_give_an_eta(service):
    async with service.worker():
        await service.succeeded(await service.submit())
    id = await service.submit()
    view = await service.generations.get(id)
    assert view.queue_position == 1
    assert view.eta_seconds is not None


async def test_figures_count_what_ended(service, graph_of, make_node):
    async with service.worker():
        good = await service.submit()
        bad = await service.submit(graph_of(make_node("TestFail", reason="x")))
        await service.succeeded(good)
        await service.failed(bad)
    waiting = await service.submit()
    stats = await service.overview.stats()
    assert stats.by_status["succeeded"] == stats.by_status["failed"] == 1
    assert (stats.success_rate, stats.failure_rate, stats.queue_length) == (0.5, 0.5, 1)
    assert stats.run_mean_seconds > 0
    assert (await service.generations.get(waiting)).job.status == "queued"
