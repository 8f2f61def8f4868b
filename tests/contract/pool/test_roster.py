"""The instances and their drivers, on every database."""

import asyncio

import pytest
from sqlalchemy import update

from atelier.database import now_ms
from atelier.pool.report import Report
from atelier.pool.roster import Entry, Held, Roster
from atelier.pool.tables import instances, workers

A = Entry("gpu-a", "http://gpu-a:8188")
B = Entry("gpu-b", "http://gpu-b:8188", tags=("fast",), weight=2.0)
HERE = Entry("127.0.0.1:8188@h1", "http://127.0.0.1:8188", origin="sidecar", host="h1")


class Pool:
    """The roster, each call in a transaction of its own."""

    def __init__(self, database):
        self.database = database
        self.roster = Roster(database.dialect)

    def __getattr__(self, name):
        method = getattr(self.roster, name)

        def call(*args, **options):
            return self.database.run(lambda conn: method(conn, *args, **options))

        return call

    async def row(self, id):
        return {row.id: row for row in await self.rows()}.get(id)

    async def expire(self, id):
        """Let the lease run out."""
        await self.set(id, lease_expires_at_ms=now_ms() - 1)

    async def set(self, id, **values):
        await self.database.run(
            lambda conn: conn.execute(
                update(instances).where(instances.c.id == id).values(**values)
            )
        )


@pytest.fixture
def pool(database):
    return Pool(database)


async def test_configured_instances_are_there_once_and_for_several_workers(pool):
    await pool.configure([A, HERE], worker="w1")
    await pool.configure([A, B], worker="w2")
    rows = {row.id: row for row in await pool.rows()}
    assert rows.keys() == {"gpu-a", "gpu-b", "127.0.0.1:8188@h1"}
    assert (rows["gpu-a"].wanted, rows["gpu-a"].driver, rows["gpu-a"].weight) == (
        "active",
        None,
        1.0,
    )
    assert (rows["gpu-b"].tags, rows["gpu-b"].weight) == (("fast",), 2.0)
    here = rows["127.0.0.1:8188@h1"]
    assert (here.origin, here.host) == ("sidecar", "h1")


async def test_what_callers_changed_outlives_a_restart_with_the_same_configuration(pool):
    await pool.configure([A], worker="w1")
    assert await pool.change("gpu-a", wanted="draining", weight=3.0, tags=["x"])
    await pool.configure([A], worker="w1")
    row = await pool.row("gpu-a")
    assert (row.wanted, row.weight, row.tags) == ("draining", 3.0, ("x",))
    assert not await pool.change("gpu-z", wanted="draining")


async def test_one_worker_takes_a_free_instance_and_the_lease_keeps_others_out(pool):
    await pool.configure([A], worker="w1")
    assert await pool.take("gpu-a", "w1") == 1
    assert await pool.take("gpu-a", "w2") is None
    assert (await pool.row("gpu-a")).driver == "w1"
    # Its own again, after a restart: under a new number.
    assert await pool.take("gpu-a", "w1") == 2
    assert await pool.take("gpu-z", "w1") is None


async def test_of_many_who_take_at_once_one_has_it(pool):
    await pool.configure([A], worker="w0")
    taken = await asyncio.gather(*(pool.take("gpu-a", f"w{n}") for n in range(12)))
    assert [lease for lease in taken if lease is not None] == [1]


async def test_lease_that_ran_out_is_taken_over_and_the_old_driver_told(pool):
    await pool.configure([A], worker="w1")
    lease = await pool.take("gpu-a", "w1")
    await pool.expire("gpu-a")
    assert (await pool.row("gpu-a")).driver is None
    assert await pool.take("gpu-a", "w2") == lease + 1
    held = Held("gpu-a", lease, Report(up=True, served=7), None)
    assert await pool.renew("w1", [held]) == {"gpu-a"}
    assert (await pool.row("gpu-a")).report.served == 0, "a stale driver wrote"
    await pool.release("gpu-a", "w1", lease)
    assert (await pool.row("gpu-a")).driver == "w2"


async def test_lease_that_ran_out_but_that_nobody_took_is_held_still(pool):
    await pool.configure([A], worker="w1")
    lease = await pool.take("gpu-a", "w1")
    await pool.expire("gpu-a")
    assert await pool.renew("w1", [Held("gpu-a", lease, Report(), None)]) == frozenset()
    assert (await pool.row("gpu-a")).driver == "w1"


async def test_renewing_records_the_report_and_what_can_be_run(pool):
    await pool.configure([A, B], worker="w1")
    held = [Held(id, await pool.take(id, "w1"), Report(), None) for id in ("gpu-a", "gpu-b")]
    report = Report(
        up=True,
        system={"system": {"argv": ["--secret"], "os": "x"}, "devices": [{"vram_free": 5}]},
        warm=("a+b",),
        switch_ms={"a+b": 12.5},
        speeds={"upscale/classic": 40},
        circuit="half_open",
        running=("j1",),
        busy_until_ms=1_800_000_000_000,
    )
    told = [Held("gpu-b", held[1].lease, report, "cafe"), held[0]]
    assert await pool.renew("w1", told) == frozenset()
    row = await pool.row("gpu-b")
    assert row.capabilities == "cafe"
    assert "--secret" not in str(row.report)
    assert (row.report.warm, row.report.speeds, row.report.circuit) == (
        ("a+b",),
        {"upscale/classic": 40},
        "half_open",
    )
    # What isn't known any more stays as it was.
    await pool.renew("w1", [Held("gpu-b", held[1].lease, Report(), None)])
    assert (await pool.row("gpu-b")).capabilities == "cafe"
    assert (await pool.row("gpu-a")).report == Report()


async def test_released_instance_can_be_taken_at_once(pool):
    await pool.configure([A], worker="w1")
    lease = await pool.take("gpu-a", "w1")
    await pool.release("gpu-a", "w1", lease)
    assert await pool.take("gpu-a", "w2") == lease + 1


async def test_worker_that_goes_leaves_all_it_drives(pool):
    await pool.configure([A, B], worker="w1")
    await pool.attend("w1", "h1")
    await pool.attend("w1", "h1")
    await pool.attend("w2", "h2")
    await pool.take("gpu-a", "w1")
    await pool.take("gpu-b", "w2")
    assert await pool.workers() == {"w1": "h1", "w2": "h2"}
    await pool.leave("w1")
    assert await pool.workers() == {"w2": "h2"}
    assert [(row.id, row.driver) for row in await pool.rows()] == [
        ("gpu-a", None),
        ("gpu-b", "w2"),
    ]


async def test_worker_that_was_not_heard_of_for_a_lease_is_gone(pool):
    await pool.attend("w1", "h1")
    await pool.database.run(
        lambda conn: conn.execute(update(workers).values(expires_at_ms=now_ms()))
    )
    assert await pool.workers() == {}


async def test_instance_is_added_once(pool):
    entry = Entry("gpu-7", "http://gpu-7:8188", origin="api", tags=("a100",))
    assert await pool.add(entry)
    assert not await pool.add(entry)
    assert (await pool.row("gpu-7")).origin == "api"


async def test_removed_instance_is_seen_while_it_is_driven_then_gone_and_can_come_back(pool):
    entry = Entry("gpu-7", "http://gpu-7:8188", origin="api")
    await pool.add(entry)
    lease = await pool.take("gpu-7", "w1")
    await pool.change("gpu-7", wanted="removed")
    await pool.forget()
    assert (await pool.row("gpu-7")).wanted == "removed"
    await pool.release("gpu-7", "w1", lease)
    assert await pool.rows() == []
    assert await pool.get("gpu-7") is None
    assert await pool.take("gpu-7", "w1") is None
    assert await pool.add(entry)
    assert (await pool.row("gpu-7")).wanted == "active"
    await pool.change("gpu-7", wanted="removed")
    await pool.forget()
    assert await pool.add(entry), "the row itself was forgotten"


async def test_configured_instance_that_was_removed_stays_away_over_restarts(pool):
    await pool.configure([A], worker="w1")
    await pool.change("gpu-a", wanted="removed")
    await pool.forget()
    await pool.configure([A], worker="w1")
    assert await pool.rows() == []
    assert await pool.add(Entry("gpu-a", "http://gpu-a:8188", origin="api"))
    assert (await pool.row("gpu-a")).wanted == "active"


async def test_what_a_worker_is_no_longer_configured_with_goes_unless_another_serves_it(pool):
    await pool.configure([A, B, HERE], worker="w1")
    await pool.add(Entry("gpu-7", "http://gpu-7:8188", origin="api"))
    await pool.take("gpu-b", "w2")
    await pool.unconfigure("w1", keep=["gpu-a"])
    assert [row.id for row in await pool.rows()] == ["gpu-7", "gpu-a", "gpu-b"]
    await pool.unconfigure("w1", keep=[])
    assert [row.id for row in await pool.rows()] == ["gpu-7", "gpu-b"]


async def test_side_car_is_forgotten_soon_after_its_host_and_others_after_a_day(pool):
    await pool.configure([A, HERE], worker="w1")
    for id in ("gpu-a", HERE.id):
        await pool.set(id, configured_at_ms=now_ms() - 11 * 60_000)
    await pool.forget()
    assert [row.id for row in await pool.rows()] == ["gpu-a"]
    await pool.set("gpu-a", configured_at_ms=now_ms() - 25 * 3_600_000)
    await pool.take("gpu-a", "w2")
    await pool.forget()
    assert [row.id for row in await pool.rows()] == ["gpu-a"], "somebody serves it"
    await pool.expire("gpu-a")
    await pool.forget()
    assert await pool.rows() == []


async def test_capabilities_are_kept_once_and_as_long_as_an_instance_has_them(pool):
    body = "0123456789abcdef" * 20_000
    await pool.keep_capabilities("cafe", body)
    await pool.keep_capabilities("cafe", "something else")
    assert await pool.capabilities("cafe") == body
    assert await pool.capabilities("beef") is None
    await pool.forget()
    assert await pool.capabilities("cafe") == body, "young"
