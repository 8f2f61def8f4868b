"""How ended jobs are let go of, on every database."""

from typing import Any

import pytest
from sqlalchemy import update

from atelier.database import now_ms
from atelier.jobs.tables import jobs, requirements

HOUR_MS = 3_600_000


@pytest.fixture
def backdate(bench: Any) -> Any:
    async def work(table: Any, column: str, where: Any, hours: float) -> None:
        value = now_ms() - int(hours * HOUR_MS)
        await bench.database.run(
            lambda conn: conn.execute(update(table).where(where).values({column: value}))
        )

    return work


async def test_queued_and_running_jobs_are_live(bench: Any) -> None:
    running = (await bench.claimed()).job
    queued, ended = await bench.put(), await bench.put()
    await bench.do("cancel", ended.id)
    assert set(await bench.look("all_live")) == {running.id, queued.id}
    assert await bench.look("known", [ended.id, "nobody"]) == {ended.id}


async def test_what_jobs_carry_is_read_as_it_is_kept(bench: Any) -> None:
    one = await bench.put(inputs={"image": {"asset": "A-1"}}, graph={"1": {"inputs": {"x": "A-2"}}})
    two = await bench.put(inputs={})
    texts = await bench.look("carried", [one.id, two.id])
    assert sorted(texts) == ['{"1":{"inputs":{"x":"A-2"}}}', '{"image":{"asset":"A-1"}}', "{}"]


async def test_only_ended_jobs_are_hidden_and_once(bench: Any) -> None:
    live, ended = await bench.put(), await bench.put()
    await bench.do("cancel", ended.id)
    assert await bench.do("hide", [live.id, ended.id]) == 1
    assert await bench.do("hide", [live.id, ended.id]) == 0
    assert await bench.look("get", ended.id) is None
    assert await bench.look("get", live.id) is not None
    assert await bench.do("requeue", ended.id) is False


async def test_rows_go_once_the_job_was_hidden_for_a_while(bench: Any, backdate: Any) -> None:
    running = (await bench.claimed()).job
    hidden, seen = await bench.put(), await bench.put()
    ids = [hidden.id, seen.id, running.id]
    for id in (hidden.id, seen.id):
        await bench.do("cancel", id)
    await bench.do("hide", [hidden.id])
    await bench.do("delete", running.id)  # it runs until its worker has heard of it
    assert await bench.look("hidden_before", age_ms=HOUR_MS, limit=5) == []
    await backdate(jobs, "deleted_at_ms", jobs.c.deleted_at_ms.is_not(None), 2)
    assert await bench.look("hidden_before", age_ms=HOUR_MS, limit=5) == [hidden.id]
    await bench.do("purge", ids)
    await bench.do("purge", ids)
    assert await bench.look("known", ids) == {seen.id, running.id}
    assert await bench.look("carried", [hidden.id]) == []


async def test_job_remembers_that_its_files_are_gone(bench: Any) -> None:
    claim = await bench.claimed()
    outputs = [{"id": "a", "url": "1"}, {"id": "b", "url": "2"}]
    await bench.do("finish", claim.job.id, claim.lease, outputs, previews=[{"id": "c"}])
    await bench.do("lose_files", {claim.job.id: {"a", "c"}, "nobody": {"b"}})
    await bench.do("lose_files", {})
    job = await bench.get(claim.job.id)
    assert job.outputs == ({"id": "a", "url": "1", "available": False}, {"id": "b", "url": "2"})
    assert job.previews == ({"id": "c", "available": False},)


async def test_needs_are_forgotten_once_nobody_asks_for_them(bench: Any, backdate: Any) -> None:
    for hash in ("used", "unused", "fresh", "asked"):
        await bench.do("put_requirement", hash, {"classes": [hash]})
    await bench.put(requirement="used")
    await backdate(requirements, "created_at_ms", requirements.c.hash != "fresh", 30)
    look = {"age_ms": 24 * HOUR_MS, "limit": 5}
    assert set(await bench.look("unused_requirements", **look)) == {"unused", "asked"}
    await bench.do("put_requirement", "asked", {"classes": ["asked"]})
    await bench.do("forget_requirements", ["unused", "asked"], age_ms=24 * HOUR_MS)
    assert set(await bench.look("requirements", ["used", "unused", "fresh", "asked"])) == {
        "used", "fresh", "asked",
    }  # fmt: skip


async def test_versions_that_jobs_were_accepted_with_are_known(bench: Any) -> None:
    await bench.put(workflow="a", workflow_version="1")
    await bench.put(workflow="a", workflow_version="2")
    await bench.put(workflow="b", workflow_version="1")
    assert await bench.look("versions_used", ["a", "c"]) == {("a", "1"), ("a", "2")}
