"""What the outbox does, on every database."""

import asyncio
from typing import Any

import pytest
import uuid_utils
from sqlalchemy import update

from atelier.database import Database, now_ms
from atelier.webhooks.outbox import Delivery, Message, Outbox, Told
from atelier.webhooks.tables import webhooks


def message(**changes: Any) -> Message:
    given = {
        "id": str(uuid_utils.uuid7()),
        "job": str(uuid_utils.uuid7()),
        "url": "https://app.example/hooks?token=größe",
        "host": "app.example",
        "event": "job.succeeded",
        "body": {"type": "job.succeeded", "data": {"id": "1", "prompt": "größe 图 🖼", "n": 0.1}},
    }
    return Message(**(given | changes))


class Desk:
    """An outbox whose every call is a transaction of its own."""

    def __init__(self, database: Database) -> None:
        self.database = database
        self.outbox = Outbox()

    async def add(self, **changes: Any) -> Message:
        new = message(**changes)
        await self.database.run(lambda conn: self.outbox.add(conn, new))
        return new

    async def claim(
        self, limit: int = 10, *, places: Any = None, per_host: int = 4, lease_ms: int = 60_000
    ) -> list[Delivery]:
        return await self.database.run(
            lambda conn: self.outbox.claim(
                conn, limit=limit, places=places or {}, per_host=per_host, lease_ms=lease_ms
            )
        )

    async def do(self, method: str, *arguments: Any) -> Any:
        call = getattr(self.outbox, method)
        return await self.database.run(lambda conn: call(conn, *arguments))

    async def told(self, job: str) -> Told | None:
        async with self.database.read() as conn:
            return (await self.outbox.told(conn, [job])).get(job)

    async def let_time_pass(self, ms: int) -> None:
        values = {
            "due_at_ms": webhooks.c.due_at_ms - ms,
            "created_at_ms": webhooks.c.created_at_ms - ms,
        }
        await self.database.run(lambda conn: conn.execute(update(webhooks).values(values)))


@pytest.fixture
def desk(database: Database) -> Desk:
    return Desk(database)


async def test_message_is_taken_as_it_was_put(desk):
    put = await desk.add()
    (taken,) = await desk.claim()
    assert (taken.id, taken.job, taken.url, taken.host) == (put.id, put.job, put.url, put.host)
    assert taken.body == put.body
    assert list(taken.body) == list(put.body)  # signed as bytes: the order counts
    assert (taken.attempt, taken.lease) == (1, 1)
    assert 0 <= taken.age_ms < 60_000


async def test_message_that_is_being_sent_is_nobody_elses(desk):
    await desk.add()
    assert len(await desk.claim()) == 1
    assert await desk.claim() == []


async def test_two_workers_at_once_take_different_messages(desk):
    put = {(await desk.add()).id for _ in range(6)}
    taken = await asyncio.gather(*(desk.claim(2) for _ in range(3)))
    ids = [one.id for some in taken for one in some]
    assert len(ids) == len(set(ids))
    # What was locked by another at that moment is there the next time.
    ids += [one.id for one in await desk.claim(per_host=10)]
    assert sorted(ids) == sorted(put)


async def test_delivered_message_is_not_sent_again(desk):
    put = await desk.add()
    (taken,) = await desk.claim()
    assert await desk.do("delivered", taken.id, taken.lease)
    await desk.let_time_pass(86_400_000)
    assert await desk.claim() == []
    assert await desk.told(put.job) == Told("delivered", 1, None)


async def test_message_is_sent_again_after_its_pause(desk):
    put = await desk.add()
    (first,) = await desk.claim()
    assert await desk.do("retry", first.id, first.lease, "answered 500", 5_000)
    assert await desk.claim() == []
    assert await desk.told(put.job) == Told("pending", 1, "answered 500")
    await desk.let_time_pass(5_000)
    (second,) = await desk.claim()
    assert (second.id, second.body, second.attempt) == (first.id, first.body, 2)
    assert second.age_ms >= 5_000


async def test_message_that_was_given_up_stays_so(desk):
    put = await desk.add()
    (taken,) = await desk.claim()
    assert await desk.do("give_up", taken.id, taken.lease, "x" * 2000)
    await desk.let_time_pass(86_400_000)
    assert await desk.claim() == []
    told = await desk.told(put.job)
    assert told is not None
    assert (told.status, told.last_error) == ("dead", "x" * 500)


async def test_message_of_a_worker_that_died_is_taken_over_and_its_writes_are_refused(desk):
    put = await desk.add()
    (lost,) = await desk.claim()
    await desk.let_time_pass(60_001)
    (taken,) = await desk.claim()
    assert (taken.id, taken.attempt, taken.lease) == (lost.id, 2, 2)
    assert not await desk.do("delivered", lost.id, lost.lease)
    assert not await desk.do("retry", lost.id, lost.lease, "late", 0)
    assert not await desk.do("give_up", lost.id, lost.lease, "late")
    assert await desk.told(put.job) == Told("pending", 2, None)
    assert await desk.do("delivered", taken.id, taken.lease)


async def test_host_gets_no_more_than_its_share_and_holds_nobody_up(desk):
    for _ in range(8):
        await desk.add(host="slow.example")
    quick = await desk.add(host="quick.example")
    taken = await desk.claim(5, per_host=2)
    assert [one.host for one in taken] == ["slow.example", "slow.example", "quick.example"]
    assert taken[-1].id == quick.id
    assert await desk.claim(5, places={"slow.example": 2}, per_host=2) == []
    assert len(await desk.claim(5, places={"slow.example": 1}, per_host=2)) == 1


async def test_only_the_last_end_of_a_job_counts(desk):
    first = await desk.add()
    (taken,) = await desk.claim()
    await desk.do("delivered", taken.id, taken.lease)
    await desk.add(job=first.job)
    assert await desk.told(first.job) == Told("pending", 0, None)


async def test_forgotten_jobs_have_nothing_to_tell(desk):
    gone, kept = await desk.add(), await desk.add()
    await desk.do("forget", [gone.job])
    assert await desk.told(gone.job) is None
    assert [one.id for one in await desk.claim()] == [kept.id]


async def test_nothing_is_put_out_when_the_transaction_fails(desk):
    async def work(conn: Any) -> None:
        await desk.outbox.add(conn, message())
        raise RuntimeError("the job could not be ended")

    with pytest.raises(RuntimeError):
        await desk.database.run(work)
    assert await desk.claim() == []


async def test_secret_is_that_of_the_first_who_made_one(desk):
    kept = await asyncio.gather(*(desk.do("keep_secret", f"whsec_{n}") for n in range(3)))
    assert len(set(kept)) == 1
    assert await desk.do("keep_secret", "whsec_other") == kept[0]
    assert await desk.do("secret") == kept[0]


async def test_time_is_the_databases(desk):
    await desk.add()
    (taken,) = await desk.claim(lease_ms=0)
    async with desk.database.read() as conn:
        row = (await conn.execute(webhooks.select().add_columns(now_ms().label("now")))).one()
    assert 0 <= row.now - row.due_at_ms < 60_000
    assert taken.lease == row.lease
