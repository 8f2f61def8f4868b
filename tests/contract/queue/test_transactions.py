import asyncio
import contextlib

import psycopg
import pytest
from sqlalchemy import text, update

from atelier.database import Database, DatabaseBusy, DatabaseUnavailable
from atelier.jobs.tables import jobs

BACKEND = {"postgresql": "SELECT pg_backend_pid()", "mysql": "SELECT CONNECTION_ID()"}
KILL = {"postgresql": "SELECT pg_terminate_backend({})", "mysql": "KILL CONNECTION {}"}


async def test_cancelled_transaction_is_undone_and_blocks_nobody(bench):
    for number in range(5):
        entered = asyncio.Event()

        async def work(entered=entered):
            async with bench.database.transaction() as conn:
                await bench.queue.insert(conn, bench.new())
                entered.set()
                while True:
                    await conn.execute(text("SELECT 1"))
                    await asyncio.sleep(0)

        task = asyncio.create_task(work())
        await entered.wait()
        await asyncio.sleep(0.001 * number)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert sum((await bench.look("counts")).values()) == number
        await asyncio.wait_for(bench.put(), 5)


async def test_cancelling_at_any_moment_leaves_all_or_nothing(bench):
    put = 0
    for number in range(25):
        new = bench.new(idempotency_key=str(number))
        task = asyncio.create_task(bench.do("insert", new))
        for _ in range(number):
            await asyncio.sleep(0)
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
        job, _ = await asyncio.wait_for(bench.do("insert", new), 5)
        put += 1
        assert (await bench.get(job.id)).inputs == {}
    assert (await bench.look("counts"))["queued"] == put


async def test_reading_does_not_wait_for_a_writer(bench):
    job = await bench.put()
    async with bench.database.transaction() as conn:
        await bench.queue.cancel(conn, job.id)
        seen = await asyncio.wait_for(bench.get(job.id), 2)
    assert seen.status == "queued"
    assert await bench.status(job.id) == "cancelled"


async def test_work_that_deadlocks_is_done_again(bench):
    first, second = await bench.put(), await bench.put()
    attempts = 0
    both = asyncio.Barrier(2)

    async def touch(conn, ids):
        nonlocal attempts
        attempts += 1
        for id in ids:
            await conn.execute(
                update(jobs).where(jobs.c.id == id).values(attempts=jobs.c.attempts + 1)
            )
            if attempts <= 2 and bench.database.dialect != "sqlite":
                # Both hold one row and want the other's, the first time.
                with contextlib.suppress(asyncio.BrokenBarrierError):
                    await both.wait()
                    await both.abort()

    ids = [first.id, second.id]
    await asyncio.gather(
        bench.database.run(lambda conn: touch(conn, ids)),
        bench.database.run(lambda conn: touch(conn, ids[::-1])),
    )
    assert attempts == (2 if bench.database.dialect == "sqlite" else 3)
    assert [(await bench.get(id)).attempts for id in ids] == [2, 2]


async def test_lost_connection_is_replaced(bench):
    if bench.database.dialect == "sqlite":
        pytest.skip("sqlite has no server to lose")
    lost = 0

    async def work(conn):
        nonlocal lost
        job, _ = await bench.queue.insert(conn, bench.new(idempotency_key="k"))
        if not lost:
            lost = await conn.scalar(text(BACKEND[bench.database.dialect]))
            async with bench.database.transaction() as other:
                await other.execute(text(KILL[bench.database.dialect].format(lost)))
            await asyncio.sleep(0.05)
        await conn.execute(text("SELECT 1"))
        return job

    job = await bench.database.run(work)
    assert lost
    assert (await bench.look("counts"))["queued"] == 1
    assert await bench.status(job.id) == "queued"


async def test_idle_connections_that_the_server_has_closed_are_replaced(bench):
    if bench.database.dialect == "sqlite":
        pytest.skip("sqlite has no server to lose")
    dialect = bench.database.dialect

    async def backend(conn):
        return await conn.scalar(text(BACKEND[dialect]))

    writer, reader = await bench.database.run(backend), await bench.database.query(backend)
    async with bench.database.transaction() as one, bench.database.transaction() as two:
        mine = {await backend(one), await backend(two)}
        killer = two if await backend(one) == writer else one
        for id in {writer, reader} - {await backend(killer)}:
            await killer.execute(text(KILL[dialect].format(id)))
        await asyncio.sleep(0.05)
        with contextlib.suppress(DatabaseUnavailable):
            await one.rollback()
            await two.rollback()
    assert mine
    job = await bench.put()
    fetched = await bench.database.query(lambda conn: bench.queue.get(conn, job.id))
    assert fetched == job


class Proxy:
    """A TCP port in front of a server that can go silent, as behind a cable that was pulled."""

    def __init__(self, host, port):
        self.address = host, port
        self.silent = False
        self.tasks = set()

    async def __aenter__(self):
        self.server = await asyncio.start_server(self.accept, "127.0.0.1", 0)
        self.port = self.server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_):
        self.server.close()
        for task in self.tasks:
            task.cancel()
        await asyncio.gather(*self.tasks, return_exceptions=True)

    def accept(self, reader, writer):
        self.tasks.add(asyncio.create_task(self.serve(reader, writer)))

    async def serve(self, reader, writer):
        there_reader, there_writer = await asyncio.open_connection(*self.address)
        try:
            await asyncio.gather(self.copy(reader, there_writer), self.copy(there_reader, writer))
        finally:
            writer.close()
            there_writer.close()

    async def copy(self, reader, writer):
        with contextlib.suppress(OSError):
            while data := await reader.read(65536):
                if not self.silent:
                    writer.write(data)
        writer.close()


async def test_server_that_goes_silent_is_given_up_and_found_again(bench, monkeypatch):
    # psycopg tries for 5 s to cancel the statement at the server, then waits 5 s more for its end.
    try_cancel = psycopg.AsyncConnection._try_cancel

    async def impatient(self, *, timeout):
        await try_cancel(self, timeout=min(timeout, 0.05))

    monkeypatch.setattr(psycopg.AsyncConnection, "_try_cancel", impatient)
    if bench.database.dialect == "sqlite":
        pytest.skip("sqlite has no server to lose")
    url = bench.database.url
    default_port = 5432 if bench.database.dialect == "postgresql" else 3306
    async with Proxy(url.host, url.port or default_port) as proxy:
        through = url.set(host="127.0.0.1", port=proxy.port)
        address = through.render_as_string(hide_password=False)
        async with await Database.open(address) as database:

            async def ask():
                async with database.transaction(timeout_seconds=0.2) as conn:
                    await conn.execute(text("SELECT 1"))

            await ask()
            proxy.silent = True
            with pytest.raises(DatabaseUnavailable, match="in time"):
                await asyncio.wait_for(ask(), 15)
            proxy.silent = False
            await database.run(lambda conn: conn.execute(text("SELECT 1")))


async def test_trying_again_ends(bench):
    tries = 0

    async def work(conn):
        nonlocal tries
        tries += 1
        raise DatabaseBusy("Locked.")

    with pytest.raises(DatabaseUnavailable, match="Locked"):
        await bench.database.run(work, attempts_seconds=0.2)
    assert tries > 2


async def test_mistaken_statement_is_not_tried_again(bench):
    tries = 0

    async def work(conn):
        nonlocal tries
        tries += 1
        await conn.execute(text("SELECT nothing FROM nowhere"))

    with pytest.raises(Exception, match="nowhere") as caught:
        await bench.database.run(work)
    assert not isinstance(caught.value, DatabaseUnavailable)
    assert tries == 1
    await bench.put()


async def test_many_at_once_get_their_turn(bench):
    await asyncio.gather(*(bench.put() for _ in range(40)))
    assert (await bench.look("counts"))["queued"] == 40


async def test_transaction_of_a_machine_that_vanished_ends_by_itself(bench):
    """Its connection stays open for the server: only a time-out gives its locks back."""
    asked = {
        "postgresql": "SELECT current_setting('idle_in_transaction_session_timeout')",
        "mysql": "SELECT CONCAT(@@SESSION.idle_transaction_timeout, 's')",
    }
    if bench.database.dialect == "sqlite":
        pytest.skip("an embedded database has no connections of other machines")
    async with bench.database.transaction() as connection:
        found = (await connection.execute(text(asked[bench.database.dialect]))).scalar()
    assert found in ("1min", "60s")
