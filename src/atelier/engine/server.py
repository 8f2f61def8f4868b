"""The engine as a server: routes, the worker thread, start and end."""

import asyncio
import ipaddress
import json
import logging
import os
import signal
import threading
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from aiohttp import web

from atelier.engine.cache import ResultCache
from atelier.engine.catalogue_routes import CatalogueRoutes
from atelier.engine.clients import FEATURES, Clients
from atelier.engine.config import EngineConfig
from atelier.engine.executor import work
from atelier.engine.file_routes import FileRoutes
from atelier.engine.folders import Folders, write_atomically
from atelier.engine.prompt_queue import PromptQueue
from atelier.engine.prompt_routes import PromptRoutes
from atelier.errors import ConfigurationError

log = logging.getLogger(__name__)

_WORKER_GRACE_SECONDS: Final = 1.0
_LINGER_CHECKS_PER_PERIOD: Final = 10

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class PortTaken(ConfigurationError):
    """The engine can't listen where it was told to."""

    code = "ENGINE_PORT_TAKEN"
    default_hint = "Choose another port, or 0 for a free one."


class Engine:
    """The parts of a running engine."""

    def __init__(self, config: EngineConfig) -> None:
        """Make the folders. Raises FolderNotWritable."""
        self.folders = Folders(config.root)
        self.clients = Clients(lambda: self.queue.remaining)
        self.queue = PromptQueue(config.max_history, self.clients.broadcast_remaining)
        self._cache = ResultCache(config.cache_bytes)
        # A daemon: a node in the middle of a long step must not keep the process from ending.
        self._worker = threading.Thread(target=self._work, name="engine-worker", daemon=True)

    def start(self) -> None:
        self.clients.attach(asyncio.get_running_loop())
        self._worker.start()

    async def stop(self) -> None:
        """Interrupt what runs, say good-bye to the clients, wait a second for the worker."""
        self.queue.close()
        await self.clients.close()
        await asyncio.to_thread(self._worker.join, _WORKER_GRACE_SECONDS)

    @property
    def is_idle(self) -> bool:
        """Whether no WebSocket is open and nothing runs or waits."""
        return self.clients.count == 0 and self.queue.remaining == 0

    def _work(self) -> None:
        work(self.queue, self._cache, self.folders, self.clients)


_ENGINE: Final = web.AppKey("engine", Engine)


def create_app(config: EngineConfig) -> web.Application:
    """Return the engine as an application; its worker lives from start-up to shutdown.

    Raises FolderNotWritable.
    """
    engine = Engine(config)
    app = web.Application(
        client_max_size=int(FEATURES["max_upload_size"]), middlewares=[_same_origin_only]
    )
    app[_ENGINE] = engine
    parts = (
        PromptRoutes(engine.queue, engine.folders),
        FileRoutes(engine.folders),
        CatalogueRoutes(engine.folders),
    )
    for prefix in ("", "/api"):
        for part in parts:
            app.add_routes(part.routes(prefix))
        app.add_routes([web.get(f"{prefix}/ws", engine.clients.serve)])
    app.on_startup.append(_start)
    app.on_shutdown.append(_stop)
    return app


async def serve(config: EngineConfig) -> None:
    """Serve until SIGTERM, SIGINT or the linger time. Raises FolderNotWritable, PortTaken."""
    app = create_app(config)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=_WORKER_GRACE_SECONDS)
    stop = asyncio.Event()
    with _signals_caught(stop):
        await runner.setup()
        try:
            url = await _listen(runner, config)
            log.info("The engine listens on %s", url)
            with _announced(config.announce, url):
                await _until_stopped(stop, app[_ENGINE], config.linger_seconds)
        finally:
            await runner.cleanup()


async def _start(app: web.Application) -> None:
    app[_ENGINE].start()


async def _stop(app: web.Application) -> None:
    # Before aiohttp waits for open requests to end: sockets only do when they are told to.
    await app[_ENGINE].stop()


@web.middleware
async def _same_origin_only(request: web.Request, handler: Handler) -> web.StreamResponse:
    # A web page from elsewhere could otherwise use an engine on its visitor's own machine.
    origin = request.headers.get("Origin")
    if (
        origin is not None
        and urlsplit(origin).netloc.lower() != request.host.lower()
        and _is_loopback(urlsplit(f"//{request.host}").hostname)
    ):
        raise web.HTTPForbidden
    return await handler(request)


def _is_loopback(host: str | None) -> bool:
    if host is None or host == "localhost":
        return host is not None
    with suppress(ValueError):
        return ipaddress.ip_address(host).is_loopback
    return False


async def _listen(runner: web.AppRunner, config: EngineConfig) -> str:
    site = web.TCPSite(runner, config.host, config.port)
    try:
        await site.start()
    except OSError as error:
        message = f"Can't listen on {config.host}:{config.port}: {os.strerror(error.errno or 0)}."
        raise PortTaken(message) from error
    port = runner.addresses[0][1]
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(config.host, config.host)
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


async def _until_stopped(stop: asyncio.Event, engine: Engine, linger: float | None) -> None:
    if linger is None:
        await stop.wait()
        return
    loop = asyncio.get_running_loop()
    idle_since = loop.time()
    while not stop.is_set():
        with suppress(TimeoutError):
            async with asyncio.timeout(linger / _LINGER_CHECKS_PER_PERIOD):
                await stop.wait()
        if not engine.is_idle:
            idle_since = loop.time()
        elif loop.time() - idle_since >= linger:
            log.info("Nobody needed the engine for %s s", linger)
            return


@contextmanager
def _announced(path: Path | None, url: str) -> Iterator[None]:
    """Have ``path`` say where the engine listens, for as long as it does."""
    if path is None:
        yield
        return
    content = json.dumps({"url": url, "pid": os.getpid()}).encode()
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, content)
    try:
        yield
    finally:
        # Unless another engine has announced itself there since.
        with suppress(OSError):
            if path.read_bytes() == content:
                path.unlink()


@contextmanager
def _signals_caught(stop: asyncio.Event) -> Iterator[None]:
    """SIGTERM and SIGINT set ``stop`` instead of killing."""
    loop = asyncio.get_running_loop()
    caught = (signal.SIGTERM, signal.SIGINT)
    for number in caught:
        # Windows has no signals for loops, threads other than the main one no signals.
        with suppress(NotImplementedError, ValueError, RuntimeError):
            loop.add_signal_handler(number, stop.set)
    try:
        yield
    finally:
        for number in caught:
            with suppress(NotImplementedError, ValueError, RuntimeError):
                loop.remove_signal_handler(number)
