"""Several workers serve one pool: each its part, and each what another leaves."""

import asyncio
from contextlib import AsyncExitStack

import pytest
from sqlalchemy import update

from atelier.database import Database, now_ms
from atelier.pool import membership as membership_module
from atelier.pool.membership import Membership
from atelier.pool.pool import Pool, client_id
from atelier.pool.roster import Entry, Roster
from atelier.pool.tables import instances, workers


@pytest.fixture(autouse=True)
def short_looks(monkeypatch):
    monkeypatch.setattr(membership_module, "LOOK_SECONDS", 0.05)
    monkeypatch.setattr(membership_module, "RENEW_SECONDS", 0.1)
    monkeypatch.setattr(membership_module, "ORPHAN_SECONDS", 0.3)


class Worker:
    def __init__(self, pool, membership, stack):
        self.pool = pool
        self.membership = membership
        self._stack = stack

    def driven(self):
        return sorted(one.id for one in self.pool.driven())

    async def leave(self):
        await self._stack.aclose()

    async def die(self):
        """Without letting go of anything; the lease runs out as if time had passed."""
        self.membership._looking.cancel()
        for instance in self.pool.driven():
            await instance.__aexit__(None, None, None)

    def hold_up(self):
        """Stop looking, as a process that is suspended does."""
        self.membership._looking.cancel()


@pytest.fixture
async def new_worker(tmp_path, empty_database):
    path = tmp_path / "atelier.db"
    path.write_bytes(empty_database.read_bytes())
    async with AsyncExitStack() as all_of_them:

        async def new(name, *urls, worker=True, host="h1"):
            stack = await all_of_them.enter_async_context(AsyncExitStack())
            database = await stack.enter_async_context(await Database.open(f"sqlite:///{path}"))
            pool = Pool()
            for url in urls:
                pool.add(url, client_id(name, url))
            membership = Membership(
                pool,
                database=database,
                name=name,
                host=host,
                worker=worker,
                client_id=lambda url: client_id(name, url),
                now_ms=lambda: 0,
            )
            await stack.enter_async_context(membership)
            return Worker(pool, membership, stack)

        yield new


@pytest.fixture
async def database(tmp_path, new_worker):
    async with await Database.open(f"sqlite:///{tmp_path / 'atelier.db'}") as database:
        yield database


async def expire(database, name):
    """The leases of ``name`` run out."""

    async def work(conn):
        gone = now_ms() - 1
        await conn.execute(
            update(instances).where(instances.c.driver == name).values(lease_expires_at_ms=gone)
        )
        await conn.execute(update(workers).where(workers.c.name == name).values(expires_at_ms=gone))

    await database.run(work)


async def test_worker_alone_serves_all_and_another_gets_its_part(
    new_worker, new_engine, eventually
):
    engines = [await new_engine() for _ in range(3)]
    first = await new_worker("w1", *(one.url for one in engines))
    await eventually(lambda: len(first.pool.up()) == 3, "they did not come up")
    assert len(first.driven()) == 3
    second = await new_worker("w2")
    await eventually(lambda: len(second.driven()) == 1, "it got no part")
    assert len(first.driven()) == 2
    assert not set(first.driven()) & set(second.driven())
    # Each knows all of them, and what they can run, whoever serves them.
    await eventually(
        lambda: len(first.pool.up()) == len(second.pool.up()) == 3, "they don't know all"
    )
    other = next(one for one in second.pool.instances if not one.driven)
    assert "ImageInvert" in other.object_info.classes
    assert other.system["devices"]
    assert other.driver == "w1"


async def test_worker_that_leaves_hands_over_at_once(new_worker, engine, eventually):
    first = await new_worker("w1", engine.url)
    second = await new_worker("w2", engine.url)
    assert (len(first.driven()), len(second.driven())) == (1, 0)
    await first.leave()
    await eventually(lambda: len(second.driven()) == 1, "nobody took it")


async def test_dead_workers_instances_are_taken_when_its_lease_has_run_out(
    new_worker, engine, eventually, database
):
    first = await new_worker("w1", engine.url)
    second = await new_worker("w2", engine.url)
    await first.die()
    await asyncio.sleep(0.3)
    assert second.driven() == []
    await expire(database, "w1")
    await eventually(lambda: len(second.driven()) == 1, "nobody took it")


async def test_worker_that_comes_back_after_another_took_over_stops_serving(
    new_worker, engine, eventually, database
):
    first = await new_worker("w1", engine.url)
    second = await new_worker("w2", engine.url)
    first.hold_up()
    await expire(database, "w1")
    await eventually(lambda: len(second.driven()) == 1, "nobody took it")
    (instance,) = first.pool.instances
    assert instance.driven
    first.membership._due.clear()
    await first.membership.look()
    assert not instance.driven
    assert instance.driver == "w2"


async def test_busy_instance_is_left_when_its_runs_have_ended(new_worker, new_engine, eventually):
    engines = [await new_engine() for _ in range(2)]
    first = await new_worker("w1", *(one.url for one in engines))
    await eventually(lambda: len(first.pool.up()) == 2, "they did not come up")
    busy = first.pool.driven()
    for one in busy:
        one.usage.work.claimed(f"job at {one.id}", "w", None, None)
    second = await new_worker("w2")
    await eventually(lambda: any(one.leaving for one in busy), "it keeps all")
    await asyncio.sleep(0.2)
    assert len(first.driven()) == 2
    leaving = next(one for one in busy if one.leaving)
    assert not leaving.takes_jobs
    leaving.usage.work.left(f"job at {leaving.id}")
    await eventually(lambda: second.driven() == [leaving.id], "it was not handed over")


async def test_drained_instance_takes_no_jobs_and_a_removed_one_goes(
    new_worker, engine, eventually, database
):
    roster = Roster("sqlite")
    worker = await new_worker("w1", engine.url)
    (instance,) = worker.pool.instances
    await eventually(lambda: instance.takes_jobs, "it takes no jobs")
    await database.run(lambda conn: roster.change(conn, instance.id, wanted="draining"))
    await eventually(lambda: instance.state == "draining", "it does not drain")
    assert not instance.takes_jobs
    assert instance.driven
    await database.run(lambda conn: roster.change(conn, instance.id, wanted="active"))
    await eventually(lambda: instance.takes_jobs, "it does not come back")
    instance.usage.work.claimed("job", "w", None, None)
    await database.run(lambda conn: roster.change(conn, instance.id, wanted="removed"))
    await eventually(lambda: instance.leaving, "it is not leaving")
    assert instance.driven
    instance.usage.work.left("job")
    await eventually(lambda: worker.pool.instances == (), "it did not go")
    await worker.leave()
    again = await new_worker("w1", engine.url)
    await asyncio.sleep(0.2)
    assert again.pool.driven() == [], "a restart brought it back"


async def test_instance_that_is_added_is_served_and_one_of_another_host_is_not(
    new_worker, engine, eventually, database
):
    worker = await new_worker("w1")
    roster = Roster("sqlite")
    for entry in (
        Entry("mine", engine.url, origin="api", host="h1"),
        Entry("theirs", engine.url, origin="sidecar", host="h2"),
    ):
        await database.run(lambda conn, entry=entry: roster.add(conn, entry))
    await eventually(lambda: worker.driven() == ["mine"], "it was not taken")
    await asyncio.sleep(0.5)
    theirs = worker.pool.get("theirs")
    assert (theirs.driven, theirs.state) == (False, "down")
    assert "no worker" in theirs.last_error


async def test_process_that_serves_nothing_knows_what_workers_report(
    new_worker, engine, eventually
):
    worker = await new_worker("w1", engine.url)
    api = await new_worker("api", engine.url, worker=False)
    await eventually(lambda: len(api.pool.up()) == 1, "it does not know that it is up")
    (instance,) = api.pool.instances
    assert not instance.driven
    assert instance.object_info.revision == worker.pool.instances[0].object_info.revision
    assert api.pool.all_known()
    # What only the instance knows, it is asked for over HTTP.
    assert (await (await instance.ask()).queue()).running == ()
    await engine.stop()
    await eventually(lambda: not api.pool.up(), "it does not know that it is down")
    assert instance.object_info is not None
    assert instance.last_error
    await engine.start()
    await eventually(lambda: len(api.pool.up()) == 1, "it does not know that it is up again")
    await worker.leave()
    await eventually(lambda: not api.pool.up(), "nobody serves it, and it counts as up")


async def test_what_was_learned_goes_to_the_next_worker(new_worker, engine, eventually):
    first = await new_worker("w1", engine.url)
    (instance,) = first.pool.instances
    instance.usage.warmth.restore(("a.ckpt",), {"a.ckpt": 700.0})
    first.membership._due.clear()
    await first.membership.look()
    await first.leave()
    second = await new_worker("w2")
    await eventually(lambda: len(second.driven()) == 1, "nobody took it")
    (instance,) = second.pool.instances
    assert instance.warm == {"a.ckpt"}
    assert instance.switch_ms("a.ckpt") == 700


async def test_configuration_that_changed_takes_what_was_there_away(
    new_worker, new_engine, eventually
):
    old, new = await new_engine(), await new_engine()
    first = await new_worker("w1", old.url)
    await first.leave()
    second = await new_worker("w1", new.url)
    assert second.driven() == [f"127.0.0.1:{new.port}"]
    assert len(second.pool.instances) == 1
