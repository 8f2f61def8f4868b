from atelier.jobs.job import STATUSES


async def test_position_counts_who_goes_before(bench):
    first, second, urgent = [await bench.put(priority=p) for p in (0, 0, 3)]
    assert [await bench.look("position", job.id) for job in (first, second, urgent)] == [2, 3, 1]
    places = await bench.look("positions", [second.id, urgent.id, bench.new().id])
    assert places == {second.id: 3, urgent.id: 1}
    claim = await bench.claim()
    assert claim.job.id == urgent.id
    assert await bench.look("position", urgent.id) is None
    assert await bench.look("position", second.id) == 2
    assert await bench.look("positions", [urgent.id]) == {}


async def test_position_of_an_unknown_job_is_none(bench):
    assert await bench.look("position", bench.new().id) is None
    assert await bench.look("positions", []) == {}


async def test_jobs_of_one_millisecond_have_places_of_their_own(bench):
    inserted = await bench.do("insert_many", [bench.new() for _ in range(20)])
    ids = [job.id for job, _ in inserted]
    places = await bench.look("positions", ids)
    assert [places[id] for id in ids] == list(range(1, 21))
    assert [await bench.look("position", id) for id in ids] == list(range(1, 21))


async def test_counts_name_every_status(bench):
    assert await bench.look("counts") == dict.fromkeys(STATUSES, 0)
    done = await bench.claimed()
    await bench.do("finish", done.job.id, done.lease, [])
    await bench.claimed()
    await bench.put()
    deleted = await bench.put()
    await bench.do("delete", deleted.id)
    counts = await bench.look("counts")
    assert counts == dict.fromkeys(STATUSES, 0) | {"succeeded": 1, "running": 1, "queued": 1}


async def test_statistics_tell_counts_by_label_and_times(bench):
    done = await bench.claimed(metadata={"style": "clay"})
    await bench.do("finish", done.job.id, done.lease, [])
    failed = await bench.claimed(metadata={"style": "clay"}, workflow="upscale")
    await bench.do("fail", failed.job.id, failed.lease, {"code": "X"})
    await bench.put(metadata={"style": "anime"})
    await bench.put()
    stats = await bench.look("stats")
    assert stats.by_status["queued"] == 2
    assert stats.by_label["clay"]["succeeded"] == stats.by_label["clay"]["failed"] == 1
    assert stats.by_label["anime"]["queued"] == 1
    assert (stats.wait.count, stats.run.count) == (2, 2)
    assert set(stats.run_by_workflow) == {"style_change", "upscale"}
    finished = await bench.get(done.job.id)
    run_ms = finished.finished_at_ms - finished.started_at_ms
    assert stats.run_by_workflow["style_change"].p95_ms == run_ms
    assert (await bench.look("stats", last=1)).run.count == 1


async def test_statistics_of_an_empty_queue_have_no_times(bench):
    stats = await bench.look("stats")
    assert (stats.wait.count, stats.wait.mean_ms, stats.wait.p95_ms) == (0, None, None)
