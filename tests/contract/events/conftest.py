"""Two ends of a bus: one that tells and one that listens.

In memory both are the same; on Redis they are two, as in two processes. A Redis of a test's own
is for what must not happen to others: being killed and emptied.
"""

import asyncio
import contextlib
import os
import shutil
import socket
import subprocess
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from atelier.events.interest import Interest
from atelier.events.memory import MemoryBus
from atelier.events.redis import RedisBus, RedisUnreachable, redis_version
from atelier.events.redis import bus as redis_bus_module

URL = os.environ.get("ATELIER_TEST_REDIS_URL", "redis://127.0.0.1:6379")
PATIENCE_SECONDS = 10.0


def unavailable(reason: str) -> None:
    if os.environ.get("REQUIRE_SERVICES") == "1":
        pytest.fail(reason)
    pytest.skip(reason)


@pytest.fixture
async def redis_url() -> str:
    try:
        await redis_version(URL)
    except RedisUnreachable as error:
        unavailable(f"redis: {error.message}")
    return URL


@pytest.fixture(autouse=True)
def short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(redis_bus_module, "FIRST_PAUSE_SECONDS", 0.02)
    monkeypatch.setattr(redis_bus_module, "LONGEST_PAUSE_SECONDS", 0.05)


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(PATIENCE_SECONDS):
        while not condition():  # noqa: ASYNC110  (nothing tells when)
            await asyncio.sleep(0.005)


@pytest.fixture(name="until")
def until_fixture() -> Callable[[Callable[[], object]], Awaitable[None]]:
    return until


def new_redis_bus(url: str, installation: str) -> RedisBus:
    interest = Interest(clock=time.monotonic)
    here = MemoryBus(interest=interest, seconds_per_listener=0.0)
    return RedisBus(url, here, interest, installation=installation)


NewBus = Callable[..., AsyncIterator[RedisBus]]


@pytest.fixture
def new_bus() -> Callable[..., contextlib.AbstractAsyncContextManager[RedisBus]]:
    """``async with new_bus(url)``: connected; ``connected=False``: as soon as it can be."""
    installation = uuid.uuid4().hex

    @asynccontextmanager
    async def new(
        url: str, *, connected: bool = True, of: str | None = None
    ) -> AsyncIterator[RedisBus]:
        async with new_redis_bus(url, of or installation) as bus:
            if connected:
                await until(lambda: bus.connected)
            yield bus

    return new


@dataclass(frozen=True)
class Ends:
    """``teller`` publishes, ``listener`` is subscribed to. The same where there is one process."""

    teller: MemoryBus | RedisBus
    listener: MemoryBus | RedisBus

    @property
    def apart(self) -> bool:
        return self.teller is not self.listener


@pytest.fixture(params=["memory", "redis"])
async def ends(request: pytest.FixtureRequest, new_bus) -> AsyncIterator[Ends]:
    if request.param == "memory":
        bus = MemoryBus(interest=Interest(clock=time.monotonic), seconds_per_listener=0.0)
        yield Ends(bus, bus)
        return
    try:
        await redis_version(URL)
    except RedisUnreachable as error:
        unavailable(f"redis: {error.message}")
    async with AsyncExitStack() as stack:
        teller = await stack.enter_async_context(new_bus(URL))
        listener = await stack.enter_async_context(new_bus(URL))
        yield Ends(teller, listener)


class OwnRedis:
    """A server of the test's own, to be stopped, started and emptied."""

    def __init__(self, folder: Path) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = int(probe.getsockname()[1])
        self.url = f"redis://127.0.0.1:{self.port}"
        self._folder = folder
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        options = ("--port", str(self.port), "--save", "", "--bind", "127.0.0.1")
        self._process = subprocess.Popen(
            ["redis-server", *options],
            cwd=self._folder,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )

    def kill(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait(10)
            self._process = None


@pytest.fixture
def own_redis(tmp_path: Path) -> Iterator[OwnRedis]:
    if shutil.which("redis-server") is None:
        unavailable("redis-server isn't installed")
    server = OwnRedis(tmp_path)
    yield server
    server.kill()
