"""One run: everything started, hit, waited for, counted, ended."""

import asyncio
import contextlib
import random
import shutil
import tempfile
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson
from sqlalchemy.exc import DBAPIError

from bench.chaos.databases import OwnDatabase, own_database
from bench.chaos.fleet import Member, end
from bench.chaos.judging import Verdict, judge, prompts_of
from bench.chaos.load import Callers, Ledger
from bench.chaos.plan import Options, blows, work
from bench.chaos.striking import SERVING, Striker
from bench.chaos.watching import Watcher
from bench.fault_proxy import FaultProxy
from bench.processes import free_port


@dataclass(frozen=True, slots=True)
class Outcome:
    verdict: Verdict
    ledger: Ledger
    striker: Striker
    seconds: float
    drain_seconds: float


async def run(options: Options, folder: Path) -> Outcome:
    """Raises DidNotStart. ``folder`` keeps logs, stored files and SQLite's database."""
    began = time.monotonic()
    async with AsyncExitStack() as stack:
        database = stack.enter_context(own_database(options.database, folder))
        striker = await stack.enter_async_context(_fleet(options, database, folder))
        watching = asyncio.create_task(striker.watcher.run(), name="watch")
        callers = Callers(
            [api.url for api in striker.apis],
            f"chaos-{options.seed}",
            random.Random(options.seed + 2),
        )
        jobs = work(options)
        async with asyncio.TaskGroup() as group:
            group.create_task(callers.run(jobs, seconds=options.seconds * 0.95))
            group.create_task(striker.run(blows(options)))
        drained = time.monotonic()
        await _until_ended(database, len(callers.ledger.accepted), options.drain_seconds)
        drain_seconds = time.monotonic() - drained
        # One more look, so that takeovers of the last moment are counted.
        await asyncio.sleep(0.5)
        watching.cancel()
        await asyncio.gather(watching, return_exceptions=True)
        await end([*striker.workers, *striker.apis, *striker.engines])
        verdict = await asyncio.to_thread(
            _judged, callers.ledger, striker, database, folder, options
        )
    return Outcome(verdict, callers.ledger, striker, time.monotonic() - began, drain_seconds)


@asynccontextmanager
async def _fleet(options: Options, database: OwnDatabase, folder: Path) -> AsyncIterator[Striker]:
    members: list[Member] = []
    async with AsyncExitStack() as stack:
        stack.push_async_callback(end, members)
        engines = [_engine(number, folder) for number in range(options.engines)]
        members += engines
        for engine in engines:
            await engine.start()
        proxies = []
        for engine in engines:
            await engine.until_answering()
            proxy = FaultProxy("127.0.0.1", int(engine.url.rpartition(":")[2]))
            proxies.append(await stack.enter_async_context(proxy))
        database_proxy = redis_proxy = redis_port = None
        if database.server is not None:
            database_proxy = await stack.enter_async_context(FaultProxy(*database.server))
        if shutil.which("redis-server") is not None:
            redis_port = await stack.enter_async_context(_redis(folder))
            redis_proxy = await stack.enter_async_context(FaultProxy("127.0.0.1", redis_port))
        store = folder / "storage"
        store.mkdir()
        settings = {
            "COMFYUI_URLS": ",".join(f"http://127.0.0.1:{proxy.port}" for proxy in proxies),
            "DATABASE_URL": database.through(database_proxy and database_proxy.port),
            "STORAGE_PROVIDER": "local",
            "STORAGE_BASE_PATH": str(store),
            "ATELIER_EMBEDDED_ENGINE": "never",
            "ATELIER_LEASE_SECONDS": f"{options.lease_seconds:g}",
            "ATELIER_GRACE_SECONDS": "3",
            "HOST": "127.0.0.1",
        }
        if redis_proxy is not None:
            settings["REDIS_URL"] = f"redis://127.0.0.1:{redis_proxy.port}"
        apis = [_atelier("api", number, settings, folder) for number in range(options.apis)]
        workers = [
            _atelier("worker", number, settings, folder) for number in range(options.workers)
        ]
        members += [*apis, *workers]
        # The first brings the database up to date.
        await apis[0].start()
        await apis[0].until_answering("/ready")
        for member in [*apis[1:], *workers]:
            await member.start()
        for api in apis[1:]:
            await api.until_answering("/ready")
        for worker in workers:
            await worker.until_saying(SERVING)
        yield Striker(
            workers=workers,
            apis=apis,
            engines=engines,
            engine_proxies=proxies,
            database=database,
            database_proxy=database_proxy,
            redis_proxy=redis_proxy,
            redis_port=redis_port,
            store=store,
            watcher=Watcher(database),
            aftermath_seconds=options.lease_seconds,
        )


def _engine(number: int, folder: Path) -> Member:
    port = free_port()
    log = folder / f"engine{number}.jsonl"
    arguments = ["bench.null_engine", "--port", str(port), "--log", str(log)]
    member = Member(f"engine{number}", arguments, {}, folder / f"engine{number}")
    member.url = f"http://127.0.0.1:{port}"
    return member


def _atelier(role: str, number: int, settings: dict[str, str], folder: Path) -> Member:
    own = folder / f"{role}{number}"
    port = free_port()
    variables = {**settings, "PORT": str(port), "ATELIER_DATA_DIR": str(own / "data")}
    member = Member(f"{role}{number}", ["atelier", role], variables, own)
    member.url = f"http://127.0.0.1:{port}"
    return member


@asynccontextmanager
async def _redis(folder: Path) -> AsyncIterator[int]:
    """A Redis of our own; its port."""
    port = free_port()
    with (folder / "redis.log").open("wb") as log:
        process = await asyncio.create_subprocess_exec(
            *("redis-server", "--port", str(port), "--bind", "127.0.0.1"),
            *("--save", "", "--appendonly", "no", "--dir", str(folder)),
            stdout=log,
            stderr=log,
        )
    try:
        yield port
    finally:
        process.terminate()
        await process.wait()


async def _until_ended(database: OwnDatabase, accepted: int, seconds: float) -> None:
    """Return once as many jobs as were accepted have ended, or after ``seconds``."""
    statement = "SELECT count(*) AS ended FROM jobs WHERE finished_at_ms IS NOT NULL"
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            while True:
                with contextlib.suppress(DBAPIError):
                    found = await asyncio.to_thread(database.rows, statement)
                    if found[0]["ended"] >= accepted:
                        return
                await asyncio.sleep(0.3)


def _judged(
    ledger: Ledger, striker: Striker, database: OwnDatabase, folder: Path, options: Options
) -> Verdict:
    records = [
        {**row, "outputs": _value(row["outputs"]), "error": _value(row["error"])}
        for row in database.rows(
            "SELECT jobs.id, status, lease, prompt_id, finished_at_ms, outputs, error"
            " FROM jobs JOIN job_details ON job_id = jobs.id"
        )
    ]
    for row in records:
        row["id"], row["prompt_id"] = str(row["id"]), str(row["prompt_id"])
    assets = database.rows(
        "SELECT job_id, key, thumbnail_key FROM assets WHERE kind = 'output'"
        if database.kind != "mysql"
        else "SELECT job_id, `key`, thumbnail_key FROM assets WHERE kind = 'output'"
    )
    ends = {
        id: {**row, "id": str(row["id"]), "prompt_id": str(row["prompt_id"])}
        for id, row in striker.watcher.ends.items()
    }
    store = striker.store
    files = (path for path in (store / "outputs").rglob("*") if path.is_file())
    return judge(
        ledger=ledger,
        records=records,
        assets=assets,
        ends=ends,
        files=frozenset(str(path.relative_to(store)) for path in files),
        prompts=prompts_of(
            (number, _lines(folder / f"engine{number}.jsonl")) for number in range(options.engines)
        ),
        interrupted=[*striker.watcher.interrupted, *striker.watcher.unresumed],
        engine_faults=striker.engine_faults,
        worker_faults=[striker.worker_faults.get(n, []) for n in range(options.workers)],
        pool_faults=striker.pool_faults,
        lease_seconds=options.lease_seconds,
    )


def _lines(log: Path) -> Sequence[dict[str, Any]]:
    return [orjson.loads(line) for line in log.read_bytes().splitlines()]


def _value(value: Any) -> Any:
    """JSON as the driver gives it: text, or parsed already."""
    return orjson.loads(value) if isinstance(value, str | bytes) else value


@contextlib.contextmanager
def run_folder(kept: Path | None) -> Iterator[Path]:
    """``kept``, or a folder that goes afterwards."""
    if kept is not None:
        kept.mkdir(parents=True, exist_ok=True)
        yield kept.absolute()
        return
    with tempfile.TemporaryDirectory(prefix="atelier-chaos-") as name:
        yield Path(name)
