"""The HTTP face on a socket, and the signals that end it."""

import asyncio
import signal
import socket
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager

import uvicorn
from fastapi import FastAPI

from atelier import __version__
from atelier.api import create_api, create_side_api
from atelier.app.composition import Application
from atelier.errors import ConfigurationError


class _Server(uvicorn.Server):
    """uvicorn without signal handlers: jobs are handed over before the server goes."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.ready = asyncio.Event()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.ready.set()

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


def listen(host: str, port: int, *, variable: str = "PORT") -> socket.socket:
    """A socket bound to ``host:port``. Raises ConfigurationError where that can't be had."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # The protocol by name: asyncio turns Nagle's delay off only for sockets that say TCP.
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    if sys.platform != "win32":
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
        listener.listen(2048)
    except OSError as error:
        listener.close()
        raise ConfigurationError(
            f"Can't listen on {host}:{port}: {error.strerror}.",
            hint=f"Stop what uses that port, or choose another with {variable}.",
        ) from None
    listener.setblocking(False)
    return listener


@asynccontextmanager
async def serving(app: Application, listener: socket.socket) -> AsyncIterator[None]:
    """The HTTP face of ``app`` on ``listener``, until the context is left."""
    shutting_down = asyncio.Event()
    api = create_api(
        app.services,
        title=app.settings.app_name,
        version=app.settings.app_version or __version__,
        public_url=app.settings.public_url,
        environment=app.settings.app_env,
        shutting_down=shutting_down,
    )
    async with _served(api, listener, shutting_down):
        yield


@asynccontextmanager
async def serving_figures(app: Application, listener: socket.socket) -> AsyncIterator[None]:
    """/metrics and the state of ``app`` alone on ``listener``, until the context is left."""
    title, version = app.settings.app_name, app.settings.app_version or __version__
    async with _served(
        create_side_api(app.services, title=title, version=version), listener, asyncio.Event()
    ):
        yield


@asynccontextmanager
async def _served(
    api: FastAPI, listener: socket.socket, shutting_down: asyncio.Event
) -> AsyncIterator[None]:
    config = uvicorn.Config(
        api,
        log_config=None,
        access_log=False,
        lifespan="off",
        ws="websockets-sansio",
        ws_max_size=64 * 2**20,
        timeout_graceful_shutdown=5,
        timeout_keep_alive=75,
        server_header=False,
    )
    server = _Server(config)
    task = asyncio.create_task(server.serve(sockets=[listener]), name="http")
    try:
        await server.ready.wait()
        yield
    finally:
        shutting_down.set()
        server.should_exit = True
        await task


@contextmanager
def stop_signals() -> Iterator[asyncio.Event]:
    """An event that is set by SIGTERM and Ctrl-C; a second one ends the process at once."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()

    def on_signal() -> None:
        if stop.is_set():
            signal.raise_signal(signal.SIGKILL if hasattr(signal, "SIGKILL") else signal.SIGTERM)
        stop.set()

    if sys.platform == "win32":
        signal.signal(signal.SIGINT, lambda *_: loop.call_soon_threadsafe(on_signal))
        yield stop
        return
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, on_signal)
    try:
        yield stop
    finally:
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.remove_signal_handler(number)
