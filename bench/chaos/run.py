"""One run: everything started, loaded, harmed, let end, and looked at."""

import asyncio
import contextlib
import random
import shutil
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import orjson

from bench.chaos.databases import ChaosDatabase, of_json, own_database
from bench.chaos.faults import Faults, Harm
from bench.chaos.fleet import Fleet
from bench.chaos.load import Cancel, Load
from bench.chaos.resume import Resumes
from bench.chaos.verdict import Count, Journals, Record, judge, split_reruns

START_SECONDS = 90.0
DRAIN_SECONDS = 240.0
# What an engine may be silent for, until its prompts count as lost.
PATIENCE_SECONDS = 2.5
PROMPT_ID = 36  # characters: null engines' files begin with it
AT_ONCE = 0.15  # of the faults
LONGEST_PAUSE_SECONDS = 40.0
CUTTING = ("freeze_engine", "half_open_engine", "cut_engine")


@dataclass(frozen=True, slots=True)
class Orders:
    """``per_second`` is how fast jobs come at most."""

    database: str
    kills: int
    jobs: int
    seed: int
    per_second: float = 25.0
    run_ms: float = 80.0
    engines: int = 3
    lease_seconds: float = 15.0
    cases: Sequence[str] = ()  # in this order; empty: drawn
    keep: Path | None = None


@dataclass(slots=True)
class Outcome:
    count: Count
    harms: list[Harm]
    resumes: Resumes
    load: Load
    queued_cancels_ms: list[float] = field(default_factory=list)
    running_cancels_ms: list[float] = field(default_factory=list)
    seconds: float = 0.0
    folder: Path | None = None


async def run(orders: Orders) -> Outcome:
    """Raises TimeoutError where nothing starts."""
    rng = random.Random(orders.seed)
    folder = Path(tempfile.mkdtemp(prefix="atelier-chaos-"))
    try:
        async with own_database(orders.database, folder) as database:
            return await _run(orders, rng, folder, database)
    finally:
        if orders.keep is not None:
            shutil.copytree(folder, orders.keep, dirs_exist_ok=True)
        shutil.rmtree(folder, ignore_errors=True)


async def _run(
    orders: Orders, rng: random.Random, folder: Path, database: ChaosDatabase
) -> Outcome:
    began = time.monotonic()
    settings = {
        "ATELIER_DATA_DIR": str(folder),
        "ATELIER_EMBEDDED_ENGINE": "never",
        "ATELIER_LEASE_SECONDS": str(orders.lease_seconds),
        "DATABASE_URL": database.url,
        "ATELIER_REQUESTS_PER_MINUTE": "1000000",
    }
    resumes = Resumes(database)
    async with Fleet(folder, settings) as fleet, aiohttp.ClientSession() as session:
        redis = shutil.which("redis-server")
        if redis is not None and database.kind != "sqlite":
            fleet.start_redis(redis)
        await fleet.start_engines(orders.engines, run_ms=orders.run_ms)
        # The first to come makes the tables.
        fleet.start_api()
        await _until_answering(session, fleet.api_urls[0])
        if database.kind != "sqlite":
            fleet.start_api()
        for _ in range(2):
            fleet.start_worker()
        load = Load(fleet.api_urls, rng)
        faults = Faults(fleet, database, resumes, rng, orders.lease_seconds)
        await _until_serving(session, fleet)
        submitting = asyncio.create_task(
            load.submit(orders.jobs, per_second=orders.per_second, session=session)
        )
        beside = [
            asyncio.create_task(_cancel_now_and_then(database, load, session, rng)),
            asyncio.create_task(_count_ended(database, load)),
        ]
        try:
            await _harm(orders, faults, load, rng)
            await submitting
        finally:
            for task in (*beside, submitting):
                task.cancel()
            await asyncio.gather(*beside, submitting, return_exceptions=True)
        await _until_ended(database, len(load.accepted))
        await resumes.settle()
    # All processes have ended: nothing changes any more.
    records = await _records(database)
    journals = _journals(fleet)
    for harm in faults.done:
        # Its next life begins seconds after its death, when a prompt may run elsewhere already.
        if harm.case == "kill_engine":
            journals.ups[harm.target].append(harm.began)
    spooled = _spooled(fleet)
    cancelled = {one.job for one in load.cancels} | {
        record.id for record in records.values() if record.status == "cancelled"
    }
    count = judge(load.accepted, records, journals, spooled=spooled, cancelled=cancelled)
    count.lost += _without_files(records, await _keys(database), fleet.store)
    split_reruns(
        count,
        load.accepted,
        journals,
        engine_harms=[
            (one.target, one.began, one.ended + 5)
            for one in faults.done
            if one.case in CUTTING and one.ended - one.began > PATIENCE_SECONDS
        ],
        orphans=[(at, held.job, held.prompt) for at, held in resumes.orphans],
    )
    outcome = Outcome(count, faults.done, resumes, load, folder=orders.keep)
    _cancel_times(outcome, records, journals)
    outcome.seconds = time.monotonic() - began
    return outcome


async def _harm(orders: Orders, faults: Faults, load: Load, rng: random.Random) -> None:
    """The cases one after another, spread over the jobs: so each meets a service that works.

    Now and then one follows at once on the last, when that may still be felt.
    """
    for number in range(orders.kills):
        due = orders.jobs * (number + rng.uniform(0.2, 1)) / (orders.kills + 1)
        deadline = time.monotonic() + (0.0 if rng.random() < AT_ONCE else LONGEST_PAUSE_SECONDS)
        while load.ended < due and time.monotonic() < deadline:  # noqa: ASYNC110 - polled
            await asyncio.sleep(0.1)
        if orders.cases:
            harm = await faults.do(getattr(faults, orders.cases[number % len(orders.cases)]))
        else:
            harm = await faults.one()
        print(
            f"{number + 1:4} {harm.case} {harm.target} {harm.ended - harm.began:.1f} s,"
            f" {load.ended} ended",
            flush=True,
        )


async def _count_ended(database: ChaosDatabase, load: Load) -> None:
    while True:
        rows = await database.rows(
            "SELECT COUNT(*) FROM jobs WHERE status NOT IN ('queued', 'running')"
        )
        load.ended = rows[0][0]
        await asyncio.sleep(0.3)


async def _running(database: ChaosDatabase) -> list[str]:
    rows = await database.rows("SELECT id FROM jobs WHERE status = 'running'")
    return [row[0] for row in rows]


async def _cancel_now_and_then(
    database: ChaosDatabase, load: Load, session: aiohttp.ClientSession, rng: random.Random
) -> None:
    while True:
        await asyncio.sleep(rng.uniform(0.5, 2.5))
        await load.cancel(session, await _running(database) if rng.random() < 0.5 else ())


async def _until_answering(session: aiohttp.ClientSession, url: str) -> Any:
    async with asyncio.timeout(START_SECONDS):
        while True:
            with contextlib.suppress(aiohttp.ClientError):
                async with session.get(f"{url}/health") as response:
                    return await response.json()
            await asyncio.sleep(0.1)


async def _until_serving(session: aiohttp.ClientSession, fleet: Fleet) -> None:
    async with asyncio.timeout(START_SECONDS):
        while True:
            for url in fleet.api_urls:
                health = await _until_answering(session, url)
            up = [one for one in health.get("instances", ()) if one.get("state") == "up"]
            if len(up) == len(fleet.engines):
                return
            await asyncio.sleep(0.2)


async def _until_ended(database: ChaosDatabase, count: int) -> None:
    """Return once all have ended, or when nothing more is to be hoped for."""
    deadline = time.monotonic() + DRAIN_SECONDS
    while time.monotonic() < deadline:
        rows = await database.rows(
            "SELECT COUNT(*) FROM jobs WHERE status IN ('queued', 'running')"
        )
        if rows[0][0] == 0:
            return
        await asyncio.sleep(0.5)


async def _records(database: ChaosDatabase) -> dict[str, Record]:
    published: dict[str, list[int]] = {}
    lease_of: dict[str, int] = {}
    # All columns, since the name of one is a word of SQL to some.
    for row in await database.rows("SELECT assets.* FROM assets WHERE kind = 'output'"):
        lease_of[row.id] = _lease_of(row.key)
        published.setdefault(row.job_id, []).append(lease_of[row.id])
    found = {}
    for id, status, lease, prompt, outputs, error in await database.rows(
        "SELECT jobs.id, status, lease, prompt_id, outputs, error"
        " FROM jobs JOIN job_details ON job_details.job_id = jobs.id"
    ):
        made = of_json(outputs) or []
        found[id] = Record(
            id=id,
            status=status,
            lease=lease,
            prompt=prompt,
            error=(of_json(error) or {}).get("code"),
            made_by=tuple(str(one.get("filename"))[:PROMPT_ID] for one in made),
            leases_of_outputs=tuple(lease_of.get(one.get("id", ""), 0) for one in made),
            published=tuple(published.get(id, ())),
        )
    return found


async def _keys(database: ChaosDatabase) -> Mapping[str, list[str]]:
    keys: dict[str, list[str]] = {}
    for row in await database.rows("SELECT assets.* FROM assets WHERE kind = 'output'"):
        keys.setdefault(row.job_id, []).append(row.key)
    return keys


def _lease_of(key: str) -> int:
    """The claim that stored ``key``: outputs/../JOB/LEASE-ASSET.png."""
    number = key.rpartition("/")[2].partition("-")[0]
    return int(number) if number.isdigit() else 0


def _without_files(
    records: Mapping[str, Record], keys: Mapping[str, Sequence[str]], store: Path
) -> list[str]:
    return [
        f"{id} has no file {key}"
        for id, record in records.items()
        if record.status == "succeeded"
        for key in keys.get(id, ())
        if not (store / key).is_file()
    ]


def _journals(fleet: Fleet) -> Journals:
    journals = Journals()
    for engine in fleet.engines:
        lines = engine.journal.read_bytes().splitlines()
        journals.read(engine.member.name, map(orjson.loads, lines))
    return journals


def _spooled(fleet: Fleet) -> set[str]:
    """Jobs whose results waited on the disk for the store, as the workers' logs have it."""
    found = set()
    for worker in fleet.workers:
        for line in worker.log.read_text(errors="replace").splitlines():
            if "an earlier run's result waits here" in line or "the store is away" in line:
                _, _, rest = line.partition("job=")
                found.add(rest.split()[0] if rest else "")
    return found


def _cancel_times(outcome: Outcome, records: Mapping[str, Record], journals: Journals) -> None:
    asked: dict[str, Cancel] = {one.job: one for one in outcome.load.cancels}
    numbers = {id: number for number, id in outcome.load.accepted.items()}
    for job, cancel in asked.items():
        stops = [
            at
            for prompt in journals.by_mark.get(f"chaos/{numbers[job]}", [])
            for at, _, hit in journals.interrupts
            if hit == prompt.id and at > cancel.sent
        ]
        if stops:
            outcome.running_cancels_ms.append((min(stops) - cancel.sent) * 1000)
        elif cancel.status == "cancelled" and records[job].status == "cancelled":
            outcome.queued_cancels_ms.append((cancel.answered - cancel.sent) * 1000)
