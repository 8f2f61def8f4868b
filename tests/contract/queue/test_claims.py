import asyncio
from collections import Counter

from atelier.jobs.job import Progress


async def test_first_in_is_first_out(bench):
    ids = [(await bench.put()).id for _ in range(5)]
    assert [(await bench.claim()).job.id for _ in range(5)] == ids
    assert await bench.claim() is None


async def test_higher_priority_goes_first(bench):
    low, high, middle = [(await bench.put(priority=p)).id for p in (-1, 10, 0)]
    assert [(await bench.claim()).job.id for _ in range(3)] == [high, middle, low]


async def test_claim_says_who_runs_it_where_and_under_which_prompt(bench):
    job = await bench.put(estimate_ms=900)
    claim = await bench.claim(worker="w7", at=bench.seat("gpu-3"))
    kept = await bench.get(job.id)
    assert kept == claim.job
    assert (kept.status, kept.worker, kept.instance) == ("running", "w7", "gpu-3")
    assert kept.prompt_id == claim.prompt_id
    assert len(claim.prompt_id) == 36
    assert kept.lease == claim.lease == 1
    assert kept.attempts == 1
    assert kept.started_at_ms >= job.created_at_ms


async def test_two_workers_never_claim_the_same_job(bench):
    inserted = await bench.do("insert_many", [bench.new() for _ in range(40)])

    async def work(name):
        taken = []
        while (claim := await bench.claim(worker=name)) is not None:
            taken.append(claim.job.id)
        return taken

    taken = await asyncio.gather(*(work(f"w{number}") for number in range(6)))
    times = Counter(id for ids in taken for id in ids)
    assert times == Counter(job.id for job, _ in inserted)


async def test_job_that_the_seat_cannot_run_waits_for_another(bench):
    hard = await bench.put(requirement="hard")
    easy = await bench.put(requirement="easy")
    small = bench.seat(able=lambda requirement: requirement == "easy")
    assert (await bench.claim(at=small)).job.id == easy.id
    assert await bench.claim(at=small) is None
    assert (await bench.claim()).job.id == hard.id


async def test_job_behind_many_that_cannot_run_is_found(bench):
    for priority in (1, 0):
        hard = [bench.new(requirement="hard", priority=priority) for _ in range(12)]
        await bench.do("insert_many", hard)
    easy = await bench.put(requirement="easy", priority=-3)
    small = bench.seat(able=lambda requirement: requirement == "easy")
    assert (await bench.claim(at=small)).job.id == easy.id


# -- leases ------------------------------------------------------------------------------------


async def test_job_under_a_lease_is_nobody_elses(bench):
    await bench.claimed()
    assert await bench.claim(worker="w2") is None
    assert await bench.do("reclaim", worker="w2", instances=["gpu-1"]) == []


async def test_lease_runs_out_in_database_time(bench):
    await bench.put()
    claim = await bench.claim(lease_ms=300)
    assert await bench.do("reclaim", worker="w2", instances=["gpu-1"], lease_ms=60_000) == []
    await asyncio.sleep(0.35)
    [taken] = await bench.do("reclaim", worker="w2", instances=["gpu-1"], lease_ms=60_000)
    assert taken.job.id == claim.job.id
    assert await bench.do("reclaim", worker="w3", instances=["gpu-1"], lease_ms=60_000) == []


async def test_reclaim_keeps_prompt_instance_and_attempts(bench):
    claim = await bench.claimed()
    await bench.expire(claim.job.id)
    [taken] = await bench.do("reclaim", worker="w2", instances=["gpu-1"])
    assert taken.prompt_id == claim.prompt_id
    assert taken.lease == claim.lease + 1
    assert taken.job == await bench.get(claim.job.id)
    assert (taken.job.worker, taken.job.instance, taken.job.attempts) == ("w2", "gpu-1", 1)


async def test_two_workers_never_reclaim_the_same_job(bench):
    for _ in range(6):
        await bench.expire((await bench.claimed()).job.id)
    taken = await asyncio.gather(
        *(bench.do("reclaim", worker=f"w{n}", instances=["gpu-1"], limit=2) for n in range(6))
    )
    ids = [claim.job.id for claims in taken for claim in claims]
    assert len(ids) == len(set(ids))
    left = await bench.do("reclaim", worker="w9", instances=["gpu-1"])
    assert len(ids) + len(left) == 6


async def test_job_at_another_instance_is_reclaimed_only_when_nobody_has_for_long(bench):
    claim = await bench.claimed()
    await bench.expire(claim.job.id, ago_ms=500)
    elsewhere = {"worker": "w2", "instances": ["gpu-2"], "lease_ms": 1000}
    assert await bench.do("reclaim", **elsewhere) == []
    await bench.expire(claim.job.id, ago_ms=2500)
    [taken] = await bench.do("reclaim", **elsewhere)
    assert taken.job.instance == "gpu-1"
    await bench.expire(claim.job.id, ago_ms=2500)
    assert len(await bench.do("reclaim", worker="w3", instances=[], lease_ms=1000)) == 1


async def test_renewed_lease_is_not_reclaimed(bench):
    claim = await bench.claimed()
    await bench.expire(claim.job.id)
    renewed = await bench.do("renew", "w1", 60_000, {claim.job.id: claim.lease})
    assert (renewed.lost, renewed.cancel_requested) == (frozenset(), frozenset())
    assert await bench.do("reclaim", worker="w2", instances=["gpu-1"]) == []


async def test_renewing_stores_progress_of_each_job(bench):
    first, second = await bench.claimed(), await bench.claimed()
    leases = {first.job.id: 1, second.job.id: 1}
    await bench.do("renew", "w1", 60_000, leases, {first.job.id: Progress(40, 4, 10, "sampler")})
    await bench.do("renew", "w1", 60_000, leases, {second.job.id: Progress(70)})
    assert (await bench.get(first.job.id)).progress == Progress(40, 4, 10, "sampler")
    assert (await bench.get(second.job.id)).progress == Progress(70)


async def test_renewing_tells_what_is_lost_and_what_is_to_be_cancelled(bench):
    held, lost, cancelled, ended = [await bench.claimed() for _ in range(4)]
    await bench.expire(lost.job.id)
    await bench.do("reclaim", worker="w2", instances=["gpu-1"])
    await bench.do("cancel", cancelled.job.id)
    await bench.do("finish", ended.job.id, ended.lease, [])
    leases = {claim.job.id: claim.lease for claim in (held, lost, cancelled, ended)}
    progress = dict.fromkeys(leases, Progress(99))
    renewed = await bench.do("renew", "w1", 60_000, leases, progress)
    assert renewed.lost == {lost.job.id, ended.job.id}
    assert renewed.cancel_requested == {cancelled.job.id}
    assert (await bench.get(lost.job.id)).progress == Progress(0)
    assert (await bench.get(held.job.id)).progress == Progress(99)


async def test_renewing_nothing_asks_nothing(bench):
    renewed = await bench.do("renew", "w1", 60_000, {})
    assert renewed.lost == frozenset()


async def test_cancel_requests_are_those_of_the_worker(bench):
    mine, other = await bench.claimed(), await bench.put()
    await bench.claim(worker="w2")
    await bench.do("cancel", mine.job.id)
    await bench.do("cancel", other.id)
    assert await bench.look("cancel_requests", "w1") == {mine.job.id}


async def test_released_workers_jobs_are_taken_over_at_once(bench):
    mine = [await bench.claimed() for _ in range(2)]
    await bench.put()
    await bench.claim(worker="w2")
    assert await bench.do("release_worker", "w1") == 2
    taken = await bench.do("reclaim", worker="w3", instances=["gpu-1"])
    assert {claim.job.id for claim in taken} == {claim.job.id for claim in mine}
    assert await bench.do("release_worker", "w1") == 0


async def test_resubmitting_stores_the_new_prompt_and_counts_an_attempt(bench):
    claim = await bench.claimed()
    await bench.do("mark_submitted", claim.job.id, claim.lease)
    assert (await bench.get(claim.job.id)).submitted_at_ms is not None
    prompt_id = bench.queue.new_prompt_id()
    assert await bench.do("resubmit", claim.job.id, claim.lease, prompt_id, "gpu-2")
    job = await bench.get(claim.job.id)
    assert (job.prompt_id, job.instance, job.attempts) == (prompt_id, "gpu-2", 2)
    assert job.submitted_at_ms is None
