"""What has been answered is on the disk; what waits for the disk keeps nobody from writing."""

import asyncio
import errno
import os
import shutil
import sqlite3
import threading
from pathlib import Path

import pytest
from sqlalchemy import text

import atelier.database.write_ahead_log as module
from atelier.database import Database, DatabaseUnavailable


class Disk:
    """Stands between the program and the disk: counts, fails, takes its time."""

    def __init__(self, path):
        self.path = path
        self.flushes = 0
        self.error = None
        self.open = threading.Event()
        self.open.set()

    def sync(self, log):
        assert os.fstat(log).st_ino == Path(f"{self.path}-wal").stat().st_ino
        # What a machine without power would find: the files as they are now, and nothing later.
        for suffix in ("", "-wal"):
            shutil.copy(f"{self.path}{suffix}", f"{self.path}.after{suffix}")
        assert self.open.wait(10)
        self.flushes += 1
        if self.error is not None:
            raise self.error

    def log_bytes(self):
        return Path(f"{self.path}-wal").stat().st_size

    def survivors(self):
        connection = sqlite3.connect(f"{self.path}.after")
        try:
            return [row[0] for row in connection.execute("SELECT body FROM notes ORDER BY id")]
        finally:
            connection.close()


@pytest.fixture
def disk(tmp_path, monkeypatch):
    disk = Disk(tmp_path / "a.db")
    monkeypatch.setattr(module, "_sync", disk.sync)
    return disk


@pytest.fixture
async def database(disk):
    async with await Database.open(f"sqlite:///{disk.path}") as database:
        async with database.transaction() as conn:
            await conn.execute(text("CREATE TABLE notes (id INTEGER PRIMARY KEY, body TEXT)"))
        yield database
        disk.open.set()


def write(database, body, **how):
    insert = text("INSERT INTO notes (body) VALUES (:body)")
    return database.run(lambda conn: conn.execute(insert, {"body": body}), **how)


async def read(database):
    query = text("SELECT body FROM notes ORDER BY id")
    return (await database.query(lambda conn: conn.scalars(query))).all()


async def test_commits_survive_a_power_loss(database, disk):
    for body in "abc":
        await write(database, body)
        assert disk.survivors()[-1] == body


async def test_nobody_is_answered_before_the_disk_has_it(database, disk):
    disk.open.clear()
    writing = asyncio.create_task(write(database, "a"))
    await asyncio.sleep(0.05)
    assert not writing.done()
    disk.open.set()
    await writing


async def test_others_write_while_one_waits_for_the_disk_and_then_wait_once(database, disk):
    before = disk.flushes
    disk.open.clear()
    first = asyncio.create_task(write(database, "a"))
    await asyncio.sleep(0.05)
    others = [asyncio.create_task(write(database, body)) for body in "bcd"]
    await asyncio.sleep(0.05)
    assert await read(database) == ["a", "b", "c", "d"]
    disk.open.set()
    await asyncio.gather(first, *others)
    assert disk.flushes == before + 2
    assert disk.survivors() == ["a", "b", "c", "d"]


async def test_what_need_not_be_durable_waits_for_nothing(database, disk):
    before = disk.flushes
    await write(database, "a", durable=False)
    assert disk.flushes == before
    assert await read(database) == ["a"]
    await write(database, "b")
    assert disk.survivors() == ["a", "b"]


async def test_failing_disk_makes_the_database_unavailable(database, disk):
    disk.error = OSError(errno.EIO, "Input/output error")
    with pytest.raises(DatabaseUnavailable, match="Input/output error"):
        await write(database, "a", attempts_seconds=0)
    disk.error = None
    await write(database, "b")
    assert disk.survivors() == ["a", "b"]


async def test_one_who_gives_up_waiting_does_not_take_others_along(database, disk):
    disk.open.clear()
    tasks = [asyncio.create_task(write(database, body)) for body in "ab"]
    await asyncio.sleep(0.05)
    tasks[0].cancel()
    await asyncio.wait([tasks[0]])
    disk.open.set()
    await tasks[1]
    assert disk.survivors() == ["a", "b"]


async def test_log_stays_short(database, disk, monkeypatch):
    monkeypatch.setattr(module, "FLUSHES_PER_CHECKPOINT", 2)
    for number in range(200):
        await write(database, f"{number}" * 500)
    assert disk.log_bytes() < 40 * 4120
    assert len(await read(database)) == 200
