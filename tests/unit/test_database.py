import asyncio
import os
import sqlite3

import psycopg
import pymysql
import pytest
from sqlalchemy import select, text

import atelier.database.sqlite
from atelier.database import (
    Database,
    DatabaseBusy,
    DatabaseDamaged,
    DatabaseFull,
    DatabaseNotWritable,
    DatabaseRefused,
    DatabaseTooOld,
    DatabaseUnavailable,
    now_ms,
)
from atelier.database.database import require_release
from atelier.database.engine import parse_url
from atelier.database.errors import translate
from atelier.errors import ConfigurationError


@pytest.fixture
def path(tmp_path):
    return tmp_path / "atelier.db"


@pytest.fixture
async def database(path):
    async with await Database.open(f"sqlite:///{path}") as database:
        async with database.transaction() as conn:
            await conn.execute(text("CREATE TABLE notes (id INTEGER PRIMARY KEY, body TEXT)"))
        yield database


async def write(database, body="x"):
    await database.run(
        lambda conn: conn.execute(text("INSERT INTO notes (body) VALUES (:body)"), {"body": body})
    )


async def count(database):
    return await database.query(lambda conn: conn.scalar(text("SELECT count(*) FROM notes")))


# -- addresses and versions ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("url", "driver"),
    [
        ("sqlite:///data/atelier.db", "sqlite+aiosqlite"),
        ("sqlite+pysqlite:///data/atelier.db", "sqlite+aiosqlite"),
        ("postgres://u@h/d", "postgresql+psycopg"),
        ("postgresql://u@h/d", "postgresql+psycopg"),
        ("postgresql+asyncpg://u@h/d", "postgresql+psycopg"),
        ("mysql://u@h/d", "mysql+aiomysql"),
        ("mysql+pymysql://u@h/d", "mysql+aiomysql"),
        ("mariadb://u@h/d", "mysql+aiomysql"),
    ],
)
def test_address_is_given_the_driver_that_is_used(url, driver):
    assert parse_url(url).drivername == driver


@pytest.mark.parametrize("url", ["", "nonsense", "oracle://h/d", "sqlite://", "sqlite:///:memory:"])
def test_unusable_address_is_refused_with_a_hint(url):
    with pytest.raises(DatabaseRefused) as caught:
        parse_url(url)
    assert caught.value.hint


def test_password_is_in_no_message():
    with pytest.raises(DatabaseRefused) as caught:
        parse_url("oracle://u:secret@h/d")
    assert "secret" not in caught.value.message


@pytest.mark.parametrize(
    ("kind", "release", "is_enough"),
    [
        ("mariadb", (10, 5, 28), False),  # no SKIP LOCKED
        ("mariadb", (10, 6, 0), True),
        ("mysql", (5, 7, 44), False),
        ("mysql", (8, 0, 1), True),
        ("sqlite", (3, 34, 1), False),  # no RETURNING
        ("sqlite", (3, 35, 0), True),
        ("postgresql", (11, 22), False),
        ("postgresql", (12,), True),
        ("postgresql", (17, 2), True),
    ],
)
def test_release_that_lacks_what_is_used_is_refused(kind, release, is_enough):
    if is_enough:
        require_release(kind, release)
    else:
        with pytest.raises(DatabaseTooOld, match="too old") as caught:
            require_release(kind, release)
        assert "or newer" in caught.value.hint


@pytest.mark.parametrize("scheme", ["postgresql", "mysql"])
async def test_server_that_is_not_there_is_unavailable(scheme, unused_tcp_port):
    with pytest.raises(DatabaseUnavailable) as caught:
        await Database.open(f"{scheme}://nobody:secret@127.0.0.1:{unused_tcp_port}/nothing")
    assert caught.value.retryable
    assert "secret" not in caught.value.message


# -- what drivers say ----------------------------------------------------------------------------


def sqlite_error(code):
    error = sqlite3.OperationalError("words")
    error.sqlite_errorcode = code
    return error


def postgresql_error(state):
    return psycopg.errors.lookup(state)("words")


@pytest.mark.parametrize(
    ("dialect", "error", "expected"),
    [
        ("sqlite", sqlite_error(sqlite3.SQLITE_BUSY), DatabaseBusy),
        ("sqlite", sqlite_error(sqlite3.SQLITE_BUSY_SNAPSHOT), DatabaseBusy),
        ("sqlite", sqlite_error(sqlite3.SQLITE_FULL), DatabaseFull),
        ("sqlite", sqlite_error(sqlite3.SQLITE_IOERR_FSYNC), DatabaseUnavailable),
        ("sqlite", sqlite_error(sqlite3.SQLITE_READONLY), DatabaseNotWritable),
        ("sqlite", sqlite_error(sqlite3.SQLITE_CANTOPEN), DatabaseNotWritable),
        ("sqlite", sqlite_error(sqlite3.SQLITE_CORRUPT), DatabaseDamaged),
        ("sqlite", sqlite_error(sqlite3.SQLITE_CONSTRAINT), None),
        ("sqlite", sqlite_error(sqlite3.SQLITE_ERROR), None),
        ("postgresql", postgresql_error("40P01"), DatabaseBusy),
        ("postgresql", postgresql_error("55P03"), DatabaseBusy),
        ("postgresql", postgresql_error("53100"), DatabaseFull),
        ("postgresql", postgresql_error("53300"), DatabaseUnavailable),
        ("postgresql", postgresql_error("57P03"), DatabaseUnavailable),
        ("postgresql", postgresql_error("08006"), DatabaseUnavailable),
        ("postgresql", postgresql_error("3D000"), DatabaseRefused),
        ("postgresql", postgresql_error("28P01"), DatabaseRefused),
        ("postgresql", postgresql_error("23505"), None),
        ("postgresql", postgresql_error("42P01"), None),
        ("postgresql", psycopg.OperationalError("connection refused"), DatabaseUnavailable),
        ("mysql", pymysql.err.OperationalError(1213, "words"), DatabaseBusy),
        ("mysql", pymysql.err.OperationalError(1205, "words"), DatabaseBusy),
        ("mysql", pymysql.err.OperationalError(2013, "words"), DatabaseUnavailable),
        ("mysql", pymysql.err.OperationalError(1045, "words"), DatabaseRefused),
        ("mysql", pymysql.err.OperationalError(1049, "words"), DatabaseRefused),
        ("mysql", pymysql.err.OperationalError(1114, "words"), DatabaseFull),
        ("mysql", pymysql.err.IntegrityError(1062, "words"), None),
        ("mysql", pymysql.err.ProgrammingError(1146, "words"), None),
    ],
)
def test_driver_error_is_translated_by_its_number(dialect, error, expected):
    ours = translate(error, dialect, disconnected=False)
    assert type(ours) is (expected or type(None))


def test_lost_connection_is_unavailable_whatever_the_driver_raises():
    for error in (ConnectionResetError("reset"), EOFError(), RuntimeError("handler is closed")):
        assert type(translate(error, "mysql", disconnected=True)) is DatabaseUnavailable


# -- SQLite --------------------------------------------------------------------------------------


async def test_connections_are_set_up(database):
    async with database.transaction() as conn:
        assert await conn.scalar(text("PRAGMA journal_mode")) == "wal"
        assert await conn.scalar(text("PRAGMA foreign_keys")) == 1


async def test_transaction_holds_the_write_lock_from_its_first_statement(database, path):
    async with database.transaction() as conn:
        await conn.execute(text("SELECT 1"))
        other = sqlite3.connect(path, timeout=0)
        with pytest.raises(sqlite3.OperationalError, match="locked"):
            other.execute("BEGIN IMMEDIATE")
        other.close()


async def test_readers_cannot_write(database):
    async with database.read() as conn:
        with pytest.raises(DatabaseNotWritable):
            await conn.execute(text("INSERT INTO notes (body) VALUES ('x')"))


async def test_reading_goes_on_while_another_writes(database):
    await write(database)
    async with database.transaction() as conn:
        await conn.execute(text("DELETE FROM notes"))
        counts = await asyncio.gather(*(count(database) for _ in range(10)))
    assert counts == [1] * 10
    assert await count(database) == 0


async def test_transaction_waits_for_another_process(database, path):
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    waiting = asyncio.create_task(write(database))
    await asyncio.sleep(0.05)
    assert not waiting.done()
    # Others in this process are not held up meanwhile.
    assert await count(database) == 0
    other.execute("COMMIT")
    other.close()
    await waiting
    assert await count(database) == 1


async def test_lock_that_is_never_released_is_busy(database, path, monkeypatch):
    monkeypatch.setattr(atelier.database.sqlite, "BUSY_TIMEOUT_SECONDS", 0.02)
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    work = select(now_ms())
    with pytest.raises(DatabaseBusy):
        await database.run(lambda conn: conn.execute(work), attempts_seconds=0.1)
    other.execute("COMMIT")
    other.close()
    await write(database)


async def test_full_disk_is_said_and_nothing_is_lost(database):
    await write(database)
    async with database.transaction() as conn:
        # The way to a full disk that needs no disk: the same error comes from the same place.
        pages = await conn.scalar(text("PRAGMA page_count"))
        await conn.execute(text(f"PRAGMA max_page_count = {pages}"))
    with pytest.raises(DatabaseFull, match="full") as caught:
        await write(database, "x" * 100_000)
    assert caught.value.retryable
    assert await count(database) == 1
    async with database.transaction() as conn:
        await conn.execute(text("PRAGMA max_page_count = 100000"))
    await write(database, "x" * 100_000)
    assert await count(database) == 2


async def test_folder_is_made(tmp_path):
    async with await Database.open(f"sqlite:///{tmp_path}/new/folder/a.db") as database:
        assert database.dialect == "sqlite"
    assert (tmp_path / "new/folder/a.db").exists()


async def test_place_that_cannot_hold_a_database_is_a_sentence(tmp_path):
    (tmp_path / "file").write_text("")
    for place in (f"{tmp_path}/file/a.db", "/proc/nowhere/a.db", tmp_path):
        with pytest.raises(DatabaseNotWritable) as caught:
            await Database.open(f"sqlite:///{place}")
        assert caught.value.message.endswith(".")
        assert isinstance(caught.value, ConfigurationError)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everything")
async def test_folder_without_the_right_to_write_is_a_sentence(tmp_path):
    tmp_path.chmod(0o500)
    with pytest.raises(DatabaseNotWritable, match="can't be written"):
        await Database.open(f"sqlite:///{tmp_path}/a.db")


async def test_file_that_is_no_database_is_left_alone(path):
    path.write_bytes(b"not a database, " * 100)
    with pytest.raises(DatabaseDamaged):
        await Database.open(f"sqlite:///{path}")
    assert path.read_bytes() == b"not a database, " * 100


async def test_clock_is_the_databases_and_in_milliseconds(database):
    async with database.read() as conn:
        first = await conn.scalar(select(now_ms()))
        seconds = await conn.scalar(text("SELECT CAST(strftime('%s', 'now') AS INTEGER)"))
    assert 0 <= seconds * 1000 - first + 1000 <= 2000


async def test_transaction_cancelled_at_any_step_leaves_the_writer_usable(database):
    for steps in range(30):
        task = asyncio.create_task(write(database))
        for _ in range(steps):
            await asyncio.sleep(0)
        task.cancel()
        await asyncio.wait([task])
        before = await count(database)
        await asyncio.wait_for(write(database), 5)
        assert await count(database) == before + 1


async def test_transaction_that_takes_too_long_is_given_up(database):
    async def dawdle():
        async with database.transaction(timeout_seconds=0.02) as conn:
            await conn.execute(text("INSERT INTO notes (body) VALUES ('x')"))
            await asyncio.sleep(5)

    with pytest.raises(DatabaseUnavailable, match="in time"):
        await dawdle()
    assert await count(database) == 0
