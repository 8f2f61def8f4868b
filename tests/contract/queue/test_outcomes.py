import pytest

ERROR = {"code": "INSTANCE_ERROR", "message": "gone", "retryable": True}


async def test_finished_job_carries_outputs_and_times(bench):
    claim = await bench.claimed(seed=1)
    outputs = [{"id": "o1", "width": 64}]
    assert await bench.do(
        "finish",
        claim.job.id,
        claim.lease,
        outputs,
        {"execute_ms": 12},
        inputs={"a": 1},
        variant="classic",
    )
    job = await bench.get(claim.job.id)
    assert job.status == "succeeded"
    assert (job.outputs, job.timings) == (tuple(outputs), {"execute_ms": 12})
    assert (job.inputs, job.variant, job.progress.percent) == ({"a": 1}, "classic", 100)
    assert job.finished_at_ms >= job.started_at_ms


async def test_failed_job_carries_its_error(bench):
    claim = await bench.claimed()
    assert await bench.do("fail", claim.job.id, claim.lease, ERROR, {"execute_ms": 3})
    job = await bench.get(claim.job.id)
    assert (job.status, job.error, job.timings) == ("failed", ERROR, {"execute_ms": 3})


WRITES = {
    "finish": ([{"id": "stale"}],),
    "fail": (ERROR,),
    "retry": (ERROR, 0),
    "release": (),
    "finish_cancelled": (),
    "mark_submitted": (),
    "resubmit": ("00000000-0000-0000-0000-000000000000", "gpu-9"),
}


@pytest.mark.parametrize("write", WRITES)
async def test_write_under_a_stale_lease_changes_nothing(bench, write):
    claim = await bench.claimed()
    await bench.expire(claim.job.id)
    [taken] = await bench.do("reclaim", worker="w2", instances=["gpu-1"])
    assert not await bench.do(write, claim.job.id, claim.lease, *WRITES[write])
    assert await bench.get(claim.job.id) == taken.job


@pytest.mark.parametrize("write", WRITES)
async def test_write_after_another_outcome_changes_nothing(bench, write):
    claim = await bench.claimed()
    ending = "fail" if write == "finish" else "finish"
    await bench.do(ending, claim.job.id, claim.lease, *WRITES[ending])
    before = await bench.get(claim.job.id)
    assert not await bench.do(write, claim.job.id, claim.lease, *WRITES[write])
    assert await bench.get(claim.job.id) == before


@pytest.mark.parametrize("write", WRITES)
async def test_write_to_a_job_that_is_not_there_is_refused(bench, write):
    unknown = bench.new().id
    assert not await bench.do(write, unknown, 0, *WRITES[write])


@pytest.mark.parametrize("write", ["finish", "fail", "retry", "release", "finish_cancelled"])
async def test_outcome_may_be_written_again_after_a_lost_answer(bench, write):
    claim = await bench.claimed()
    assert await bench.do(write, claim.job.id, claim.lease, *WRITES[write])
    before = await bench.get(claim.job.id)
    assert await bench.do(write, claim.job.id, claim.lease, *WRITES[write])
    assert await bench.get(claim.job.id) == before


# -- back to the queue ---------------------------------------------------------------------------


async def test_retried_job_waits_out_its_delay(bench):
    claim = await bench.claimed()
    assert await bench.do("retry", claim.job.id, claim.lease, ERROR, 60_000) == "queued"
    job = await bench.get(claim.job.id)
    assert (job.status, job.error, job.attempts) == ("queued", ERROR, 1)
    assert (job.worker, job.instance, job.prompt_id) == (None, None, None)
    assert job.run_after_ms >= job.updated_at_ms + 60_000
    assert await bench.claim() is None
    await bench.let_run(job.id)
    again = await bench.claim()
    assert (again.job.id, again.job.attempts, again.lease) == (job.id, 2, 2)
    assert again.prompt_id != claim.prompt_id


async def test_retry_keeps_the_place_in_the_queue(bench):
    claim = await bench.claimed()
    await bench.put()
    await bench.do("retry", claim.job.id, claim.lease, ERROR, 0)
    assert (await bench.claim()).job.id == claim.job.id


async def test_retried_job_avoids_the_instance_unless_there_is_nothing_else(bench):
    claim = await bench.claimed()
    await bench.do("retry", claim.job.id, claim.lease, ERROR, 0, avoid_instance="gpu-1")
    other = await bench.put()
    assert (await bench.claim()).job.id == other.id
    assert (await bench.claim()).job.id == claim.job.id


async def test_retry_after_the_last_attempt_is_a_failure(bench):
    claim = await bench.claimed(max_attempts=2)
    assert await bench.do("retry", claim.job.id, claim.lease, ERROR, 0) == "queued"
    claim = await bench.claim()
    assert await bench.do("retry", claim.job.id, claim.lease, ERROR, 0) == "failed"
    job = await bench.get(claim.job.id)
    assert (job.status, job.error, job.attempts) == ("failed", ERROR, 2)


async def test_released_job_returns_to_its_place_without_an_attempt(bench):
    claim = await bench.claimed()
    await bench.put()
    assert await bench.do("release", claim.job.id, claim.lease)
    assert (await bench.get(claim.job.id)).attempts == 0
    again = await bench.claim()
    assert (again.job.id, again.job.attempts, again.lease) == (claim.job.id, 1, 2)


@pytest.mark.parametrize("write", ["retry", "release"])
async def test_job_to_be_cancelled_does_not_return_to_the_queue(bench, write):
    claim = await bench.claimed()
    await bench.do("cancel", claim.job.id)
    assert await bench.do(write, claim.job.id, claim.lease, *WRITES[write])
    assert await bench.status(claim.job.id) == "cancelled"
    assert await bench.claim() is None


# -- what users ask for --------------------------------------------------------------------------


async def test_queued_job_is_cancelled_at_once(bench):
    job = await bench.put()
    assert await bench.do("cancel", job.id) == "cancelled"
    assert await bench.status(job.id) == "cancelled"
    assert (await bench.get(job.id)).finished_at_ms is not None
    assert await bench.claim() is None


async def test_running_job_is_cancelled_by_its_worker(bench):
    claim = await bench.claimed()
    assert await bench.do("cancel", claim.job.id) == "requested"
    assert await bench.do("cancel", claim.job.id) == "requested"
    assert await bench.status(claim.job.id) == "running"
    assert await bench.do("finish_cancelled", claim.job.id, claim.lease)
    assert await bench.status(claim.job.id) == "cancelled"


async def test_cancel_request_survives_the_worker(bench):
    claim = await bench.claimed()
    await bench.do("cancel", claim.job.id)
    await bench.expire(claim.job.id)
    [taken] = await bench.do("reclaim", worker="w2", instances=["gpu-1"])
    assert taken.job.cancel_requested


@pytest.mark.parametrize("outcome", ["finish", "fail", "finish_cancelled"])
async def test_ended_job_cannot_be_cancelled(bench, outcome):
    claim = await bench.claimed()
    await bench.do(outcome, claim.job.id, claim.lease, *WRITES[outcome])
    before = await bench.get(claim.job.id)
    assert await bench.do("cancel", claim.job.id) == "already"
    assert await bench.get(claim.job.id) == before


async def test_cancelling_an_unknown_job_says_so(bench):
    assert await bench.do("cancel", bench.new().id) is None


@pytest.mark.parametrize("outcome", ["fail", "finish_cancelled"])
async def test_requeued_job_starts_afresh_behind_the_others(bench, outcome):
    claim = await bench.claimed()
    await bench.do("cancel", claim.job.id)
    await bench.do(outcome, claim.job.id, claim.lease, *WRITES[outcome])
    other = await bench.put()
    assert await bench.do("requeue", claim.job.id)
    job = await bench.get(claim.job.id)
    assert (job.status, job.attempts, job.error, job.outputs) == ("queued", 0, None, ())
    assert not job.cancel_requested
    assert (await bench.claim()).job.id == other.id
    again = await bench.claim()
    assert (again.job.id, again.lease) == (claim.job.id, claim.lease + 1)


async def test_only_failed_and_cancelled_jobs_can_be_requeued(bench):
    running = await bench.claimed()
    assert not await bench.do("requeue", running.job.id)
    await bench.do("finish", running.job.id, running.lease, [])
    queued = await bench.put()
    for id in (running.job.id, queued.id, bench.new().id):
        before = (await bench.look("counts")).copy()
        assert not await bench.do("requeue", id)
        assert await bench.look("counts") == before


async def test_deleted_job_is_hidden_but_kept(bench):
    claim = await bench.claimed()
    await bench.do("finish", claim.job.id, claim.lease, [])
    assert await bench.do("delete", claim.job.id)
    assert not await bench.do("delete", claim.job.id)
    assert await bench.look("get", claim.job.id) is None
    assert (await bench.look("list")).jobs == ()
    assert len((await bench.look("list", include_deleted=True)).jobs) == 1
    assert (await bench.get(claim.job.id)).deleted_at_ms is not None
    assert not await bench.do("delete", bench.new().id)


async def test_deleting_stops_a_job_that_has_not_ended(bench):
    running = await bench.claimed()
    queued = await bench.put()
    assert await bench.do("delete", queued.id)
    assert await bench.do("delete", running.job.id)
    assert await bench.claim() is None
    assert await bench.look("cancel_requests", "w1") == {running.job.id}
    assert not await bench.do("requeue", queued.id)
