"""A whole service in the test's own event loop: SQLite, store, bus, engine, workers.

Nothing is faked: the engine is the embedded one, behind a real server, with a few more nodes that
wait for the test, fail, or run out of memory.
"""

import asyncio
import base64
import io
import random
import shutil
import threading
import time
import uuid
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from PIL import Image

from atelier.comfy import follow
from atelier.comfy.client import ComfyClient
from atelier.database import Database, DatabaseUnavailable
from atelier.engine.config import EngineConfig
from atelier.engine.nodes import NODES
from atelier.engine.nodes.node import IMAGE, Input, NodeClass, Output
from atelier.engine.server import create_app
from atelier.events.event import Event
from atelier.events.memory import MemoryBus
from atelier.jobs.queue import JobQueue
from atelier.media.catalog import Catalog
from atelier.media.fetch import Fetcher
from atelier.outbound import GuardedSession
from atelier.pool import instance as instance_module
from atelier.pool.pool import Pool, client_id
from atelier.service import Assets, Generations, Notices, Overview, Submission, Workflows
from atelier.service.capabilities import Capabilities
from atelier.service.estimates import Estimates
from atelier.service.planning import Planner
from atelier.storage.objects import open_store
from atelier.telemetry import configure_logging
from atelier.webhooks.outbox import Outbox
from atelier.worker import dispatch, publication
from atelier.worker import inputs as inputs_module
from atelier.worker import outputs as outputs_module
from atelier.worker import run as run_module
from atelier.worker.context import Context
from atelier.worker.dispatch import Dispatcher
from atelier.worker.spool import Spool
from atelier.workflows.library import Library

PATIENCE_SECONDS = 15.0


@pytest.fixture(scope="session", autouse=True)
def quiet() -> None:
    configure_logging("CRITICAL")


@pytest.fixture(autouse=True)
def short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    """What happens every few seconds happens a few times a second."""
    monkeypatch.setattr(dispatch, "POLL_SECONDS", 0.1)
    monkeypatch.setattr(dispatch, "RENEW_SECONDS", 0.15)
    monkeypatch.setattr(dispatch, "RECLAIM_SECONDS", 0.1)
    monkeypatch.setattr(run_module, "IN_FLIGHT_SECONDS", 0.05)
    monkeypatch.setattr(run_module, "backoff_ms", lambda attempt, rng: 20)
    monkeypatch.setattr(inputs_module, "FIRST_PAUSE_SECONDS", 0.01)
    monkeypatch.setattr(outputs_module, "STORE_SECONDS", 0.2)
    monkeypatch.setattr(publication, "FIRST_PAUSE_SECONDS", 0.05)
    monkeypatch.setattr(publication, "LONGEST_PAUSE_SECONDS", 0.1)
    monkeypatch.setattr(instance_module, "PROBE_SECONDS", 0.3)
    monkeypatch.setattr(follow, "_SILENCE_SECONDS", 0.5)
    hasty = partial(ComfyClient, gone_after_seconds=0.3)
    monkeypatch.setattr(instance_module, "ComfyClient", hasty)


# -- pictures and graphs ---------------------------------------------------------------------------


def picture(
    size: tuple[int, int] = (32, 24), color: Any = (200, 80, 40), form: str = "PNG"
) -> bytes:
    out = io.BytesIO()
    Image.new("RGB", size, color).save(out, form)
    return out.getvalue()


def data_url(data: bytes, media_type: str = "image/png") -> str:
    return f"data:{media_type};base64,{base64.b64encode(data).decode()}"


def node(class_type: str, **inputs: Any) -> dict[str, Any]:
    return {"class_type": class_type, "inputs": inputs}


def color_graph(*middle: dict[str, Any]) -> dict[str, Any]:
    """EmptyImage of a random colour -> ``middle`` nodes -> SaveImage."""
    color = random.randrange(1 << 24)
    graph = {"1": node("EmptyImage", width=32, height=32, batch_size=1, color=color)}
    last = "1"
    for number, one in enumerate(middle, start=2):
        last = str(number)
        graph[last] = {**one, "inputs": {"image": [str(number - 1), 0], **one["inputs"]}}
    graph["9"] = node("SaveImage", images=[last, 0], filename_prefix="test")
    return graph


class Gates:
    """Nodes that wait for the test: ``gate = gates.new()``, ``gate.node`` in a graph."""

    def __init__(self) -> None:
        self.by_name: dict[str, Gate] = {}

    def new(self) -> "Gate":
        gate = Gate(uuid.uuid4().hex)
        self.by_name[gate.name] = gate
        return gate

    def open_all(self) -> None:
        for gate in self.by_name.values():
            gate.open()


class Gate:
    """``entered`` counts runs that came to it; they pass once it is open."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.entered = 0
        self._open = threading.Event()

    @property
    def node(self) -> dict[str, Any]:
        return node("TestGate", name=self.name)

    def open(self) -> None:
        self._open.set()

    def wait(self, context: Any) -> None:
        self.entered += 1
        # Interruptible, as a sampler is between its steps.
        while not self._open.wait(0.01):
            context.check_interrupted()
        context.progress(1, 4)
        context.progress(4, 4)

    async def reached(self, times: int = 1) -> None:
        await until(lambda: self.entered >= times, "nothing came to the gate")


class OutOfMemoryError(RuntimeError):
    """Named as torch's."""


@pytest.fixture
def gates(monkeypatch: pytest.MonkeyPatch) -> Iterator[Gates]:
    gates = Gates()

    def wait(context: Any, image: Any, name: str) -> Output:
        gates.by_name[name].wait(context)
        return Output(image)

    def fail(image: Any, reason: str) -> Output:
        raise ValueError(reason)

    def exhaust(image: Any, reason: str) -> Output:
        raise OutOfMemoryError(reason)

    for name, run in (("TestGate", wait), ("TestFail", fail), ("TestExhaust", exhaust)):
        text = "name" if name == "TestGate" else "reason"
        added = NodeClass(
            name=name,
            run=run,
            required={"image": IMAGE, text: Input("STRING", {"default": ""})},
            outputs=("IMAGE",),
            category="test",
            contextual=name == "TestGate",
            # Each run counts: nothing of it is cached.
            fingerprint=lambda folders, **inputs: uuid.uuid4().hex,
        )
        monkeypatch.setitem(NODES, name, added)  # type: ignore[arg-type]
    yield gates
    gates.open_all()


# -- the engine ------------------------------------------------------------------------------------


class Engine:
    """The embedded engine on a port that stays the same while it stops and starts."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._server: TestServer | None = None
        self.port: int | None = None
        self.posted: Counter[str] = Counter()  # prompt ids
        self.before: Callable[[web.Request], Awaitable[web.StreamResponse | None]] | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    async def start(self) -> None:
        app = create_app(EngineConfig(root=self._root))
        app.middlewares.append(self._note)
        self._server = TestServer(app, port=self.port, host="127.0.0.1")
        await self._server.start_server()
        self.port = self._server.port

    async def stop(self) -> None:
        """End it as a crash does for whoever uses it: history and queue are gone."""
        if self._server is not None:
            await self._server.close()
            self._server = None

    @web.middleware
    async def _note(self, request: web.Request, handler: Any) -> web.StreamResponse:
        if self.before is not None and (answer := await self.before(request)) is not None:
            return answer
        if request.method == "POST" and request.path == "/prompt":
            self.posted[(await request.json())["prompt_id"]] += 1
        return await handler(request)


@pytest.fixture
async def new_engine(
    tmp_path: Path, gates: Gates
) -> AsyncIterator[Callable[[], Awaitable[Engine]]]:
    engines: list[Engine] = []

    async def new() -> Engine:
        engine = Engine(tmp_path / f"engine{len(engines)}")
        engines.append(engine)
        await engine.start()
        return engine

    yield new
    gates.open_all()
    for engine in engines:
        await engine.stop()


@pytest.fixture
async def engine(new_engine: Callable[[], Awaitable[Engine]]) -> Engine:
    return await new_engine()


# -- the service -----------------------------------------------------------------------------------


class Service:
    """Everything of one process but its face; ``worker`` starts as many dispatchers as wanted."""

    def __init__(self, stack: AsyncExitStack, database: Database, folder: Path, pool: Pool) -> None:
        self._stack = stack
        self.database = database
        self.pool = pool
        self.outbox = Outbox()
        self.notices = Notices(
            outbox=self.outbox,
            check=GuardedSession(["127.0.0.1"]).check,
            renderers={"tasks": lambda view: {"task_id": view.job.id}},
            default=lambda view: {"id": view.job.id, "status": view.job.status},
        )
        self.queue = JobQueue(database.dialect, on_end=self.notices.ended)
        self.catalog = Catalog(database.dialect)
        self.storage_folder = folder / "storage"
        self.store = open_store(str(self.storage_folder))
        self.spool = Spool(folder / "spool", max_bytes=1_000_000)
        self.bus = MemoryBus()
        own = folder / "workflows"
        self.library = Library([own] if own.is_dir() else [])
        self.capabilities = Capabilities()
        self.estimates = Estimates(instances_up=lambda: len(pool.up()), now_ms=now_ms)
        self.assets = Assets(database=database, catalog=self.catalog, store=self.store)
        self.overview = Overview(
            database=database,
            queue=self.queue,
            store=self.store,
            library=self.library,
            pool=pool,
            capabilities=self.capabilities,
        )
        self.workflows = Workflows(database=database, library=self.library, pool=pool)
        planner = Planner(
            library=self.library, pool=pool, capabilities=self.capabilities, rng=random.Random(1)
        )
        self.generations = Generations(
            database=database,
            queue=self.queue,
            catalog=self.catalog,
            planner=planner,
            workflows=self.workflows,
            assets=self.assets,
            bus=self.bus,
            estimates=self.estimates,
            notices=self.notices,
            waiting_because=self.overview.waiting_because,
        )
        pool.on_change(self.bus.wake)
        self.published: list[Event] = []
        publish = self.bus.publish

        def note(event: Event) -> Event:
            self.published.append(event)
            return publish(event)

        self.bus.publish = note  # type: ignore[method-assign]

    def told(self, id: str, *types: str) -> list[Event]:
        """What was published about a job, before anything is coalesced for a slow listener."""
        return [e for e in self.published if e.job == id and (not types or e.type in types)]

    async def context(self, name: str = "w1", **changes: Any) -> Context:
        allow = changes.pop("allow", ())
        session = await self._stack.enter_async_context(GuardedSession(allow))
        context = Context(
            worker=name,
            database=self.database,
            queue=self.queue,
            catalog=self.catalog,
            store=self.store,
            fetcher=Fetcher(session, total_seconds=2),
            workflows=self.workflows,
            capabilities=self.capabilities,
            estimates=self.estimates,
            pool=self.pool,
            bus=self.bus,
            spool=self.spool,
            clock=time.monotonic,
            now_ms=now_ms,
            rng=random.Random(1),
        )
        return replace(context, **changes)

    @asynccontextmanager
    async def worker(
        self,
        name: str = "w1",
        *,
        capacity: int = 10,
        grace_seconds: float = 0.2,
        max_running_per_user: int | None = None,
        **changes: Any,
    ) -> AsyncIterator[Dispatcher]:
        context = await self.context(name, **changes)
        dispatcher = Dispatcher(
            context,
            capacity=lambda instances: capacity,
            max_running_per_user=max_running_per_user,
            grace_seconds=grace_seconds,
        )
        async with dispatcher:
            yield dispatcher

    async def submit(self, workflow: Any = None, inputs: Any = None, **more: Any) -> str:
        """Submit a graph (default: a random colour); the job's id."""
        submission = Submission(workflow or color_graph(), inputs or {}, **more)
        view, created = await self.generations.submit(submission)
        assert created
        return view.job.id

    async def job(self, id: str) -> Any:
        return (await self.generations.get(id)).job

    async def ended(self, *ids: str, timeout_seconds: float = PATIENCE_SECONDS) -> list[Any]:
        """The jobs once they have ended."""
        found = []
        for id in ids:
            view = await self.generations.wait(id, timeout_seconds)
            assert view.job.finished_at_ms is not None, (view.job.status, view.job.error)
            found.append(view.job)
        return found

    async def succeeded(self, *ids: str) -> list[Any]:
        jobs = await self.ended(*ids)
        for job in jobs:
            assert job.status == "succeeded", job.error
        return jobs

    async def failed(self, id: str) -> Any:
        (job,) = await self.ended(id)
        assert job.status == "failed"
        return job

    async def becomes(self, id: str, status: str) -> Any:
        async def look() -> bool:
            return bool((await self.job(id)).status == status)

        await until(look, f"the job did not become {status}")
        return await self.job(id)

    @asynccontextmanager
    async def listening(self, id: str, **options: Any) -> AsyncIterator[list[Any]]:
        """A list that fills with the job's events."""
        heard: list[Any] = []
        async with self.generations.follow(job=id, **options) as subscription:

            async def listen() -> None:
                async for event in subscription:
                    heard.append(event)  # noqa: PERF401  (seen while it fills)

            task = asyncio.create_task(listen())
            try:
                yield heard
            finally:
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)

    def stored_files(self) -> list[str]:
        return sorted(
            str(path.relative_to(self.storage_folder))
            for path in self.storage_folder.rglob("*")
            if path.is_file()
        )

    @contextmanager
    def database_away(self) -> Iterator[None]:
        """Writing fails until the context is left; reading too."""

        async def run(*_: Any, **__: Any) -> None:
            await asyncio.sleep(0.01)
            raise DatabaseUnavailable("away for a test")

        self.database.run = run  # type: ignore[method-assign]
        try:
            yield
        finally:
            del self.database.run  # type: ignore[method-assign]


@pytest.fixture(scope="session")
def empty_database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file with all tables, to copy: migrating takes a while."""
    path = tmp_path_factory.mktemp("database") / "empty.db"

    async def migrate() -> None:
        async with await Database.open(f"sqlite:///{path}") as database:
            await database.migrate()

    asyncio.run(migrate())
    return path


@pytest.fixture
async def new_service(
    tmp_path: Path, empty_database: Path
) -> AsyncIterator[Callable[..., Awaitable[Service]]]:
    """Services on one database and store, as processes on one machine would be."""
    shutil.copy(empty_database, tmp_path / "atelier.db")
    async with AsyncExitStack() as stack:

        async def new(*urls: str, wait: bool = True, owner: str = "w1", up: int = 0) -> Service:
            """With ``wait`` once ``up`` of the instances, all unless told, are there."""
            database = await stack.enter_async_context(
                await Database.open(f"sqlite:///{tmp_path / 'atelier.db'}")
            )
            pool = Pool()
            for url in urls:
                pool.add(url, client_id(owner, url))
            await stack.enter_async_context(pool)
            if wait:
                there = up or len(urls)
                await until(lambda: len(pool.up()) >= there, "instances did not come up")
            return Service(stack, database, tmp_path, pool)

        yield new


@pytest.fixture
async def service(new_service: Callable[..., Awaitable[Service]], engine: Engine) -> Service:
    return await new_service(engine.url)


def now_ms() -> int:
    return time.time_ns() // 1_000_000


async def until(
    condition: Callable[[], Any], otherwise: str, seconds: float = PATIENCE_SECONDS
) -> None:
    """Return once ``condition`` holds; fail with ``otherwise`` when it never does."""
    deadline = time.monotonic() + seconds
    while True:
        held = condition()
        if asyncio.iscoroutine(held):
            held = await held
        if held:
            return
        assert time.monotonic() < deadline, otherwise
        await asyncio.sleep(0.01)


@pytest.fixture
def eventually() -> Callable[..., Awaitable[None]]:
    return until


@pytest.fixture
def make_picture() -> Callable[..., bytes]:
    return picture


@pytest.fixture
def as_data_url() -> Callable[..., str]:
    return data_url


@pytest.fixture
def graph_of() -> Callable[..., dict[str, Any]]:
    return color_graph


@pytest.fixture
def make_node() -> Callable[..., dict[str, Any]]:
    return node
