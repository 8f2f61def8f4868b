"""What is used over the network, or might be: database, Redis, storage."""

import asyncio
import time

from sqlalchemy import select

from atelier.app import open_configured_store
from atelier.cli.doctor.finding import Finding, failed, of_error, ok, warning
from atelier.database import Database, SchemaTooOld, now_ms
from atelier.errors import AtelierError
from atelier.events.redis import redis_state
from atelier.settings import Settings

TIMEOUT_SECONDS = 15.0
CLOCK_SECONDS = 2.0
ROUND_TRIPS = 5


async def database(settings: Settings) -> list[Finding]:
    part = "database"
    try:
        async with (
            asyncio.timeout(TIMEOUT_SECONDS),
            await Database.open(settings.database) as opened,
        ):
            version = await opened.version()
            findings = [await _schema(opened, version)]
            if opened.dialect != "sqlite":
                findings.append(await _clock(opened))
            return findings
    except AtelierError as error:
        return [of_error(part, error)]
    except TimeoutError:
        return [
            failed(
                part,
                f"no answer within {TIMEOUT_SECONDS:.0f} s.",
                "Check that the database is running and reachable from here.",
            )
        ]


async def _schema(opened: Database, version: str) -> Finding:
    milliseconds = await _round_trip_ms(opened)
    told = f"{version}, {milliseconds:.1f} ms away"
    try:
        await opened.check()
    except SchemaTooOld as error:
        if "no tables" in error.message:
            return ok("database", f"{told}, empty: the tables are made at the first start")
        return warning(
            "database",
            f"{told}. {error.message}",
            "Run `atelier migrate`; `up`, `api` and `worker` do so when they start.",
        )
    return ok("database", f"{told}, up to date")


async def _round_trip_ms(opened: Database) -> float:
    async with opened.read() as conn:
        times = []
        for _ in range(ROUND_TRIPS):
            started = time.perf_counter()
            await conn.execute(select(1))
            times.append(time.perf_counter() - started)
    return min(times) * 1000


async def _clock(opened: Database) -> Finding:
    async with opened.read() as conn:
        before = time.time()
        there = (await conn.execute(select(now_ms()))).scalar_one() / 1000
        after = time.time()
    difference = there - (before + after) / 2
    if abs(difference) <= CLOCK_SECONDS + (after - before):
        return ok("database clock", f"{abs(difference):.2f} s apart from this machine's")
    return warning(
        "database clock",
        f"It is {abs(difference):.0f} s {'ahead of' if difference > 0 else 'behind'} this "
        "machine's.",
        "Let both follow a time server: addresses that are signed here would expire too early "
        "or late, and times in answers are the database's.",
    )


async def redis(settings: Settings) -> list[Finding]:
    if settings.redis_url is None:
        return []
    try:
        version, milliseconds = await redis_state(settings.redis_url)
    except AtelierError as error:
        return [warning("Redis", error.message, f"{error.hint} No job depends on it.")]
    return [ok("Redis", f"{version}, {milliseconds:.1f} ms away")]


async def storage(settings: Settings) -> Finding:
    part = f"storage {settings.storage.url.split('?')[0]}"
    try:
        async with asyncio.timeout(TIMEOUT_SECONDS), open_configured_store(settings) as store:
            await store.check()
            address = await store.url("outputs/check.png")
    except AtelierError as error:
        return of_error(part, error)
    except TimeoutError:
        return failed(
            part,
            f"no answer within {TIMEOUT_SECONDS:.0f} s.",
            "Check the endpoint and the account that the settings give.",
        )
    served = "files are served by atelier" if address is None else "addresses are the store's own"
    return ok(part, f"written, read and deleted; {served}")
