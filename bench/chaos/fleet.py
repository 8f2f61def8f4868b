"""The processes of a run, each started again at once when it ends, as a supervisor does."""

import asyncio
import contextlib
import os
import signal
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Self

from bench.fault_proxy import FaultProxy
from bench.processes import clean_environment, free_port

STOP_SECONDS = 20.0


@dataclass(slots=True)
class Member:
    """One process; ``pause_seconds`` is how long its next start is put off."""

    name: str
    command: Sequence[str]
    environment: Mapping[str, str]
    log: Path
    process: asyncio.subprocess.Process | None = None
    starts: int = 0
    pause_seconds: float = 0.0
    keeper: "asyncio.Task[None] | None" = field(default=None, repr=False)

    @property
    def pid(self) -> int | None:
        process = self.process
        return None if process is None or process.returncode is not None else process.pid

    def signal(self, number: signal.Signals) -> bool:
        pid = self.pid
        if pid is None:
            return False
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)
            return True
        return False

    async def keep(self) -> None:
        """Run it again and again, until cancelled."""
        while True:
            with self.log.open("ab") as output:
                self.process = await asyncio.create_subprocess_exec(
                    *self.command, env=dict(self.environment), stdout=output, stderr=output
                )
            self.starts += 1
            began = time.monotonic()
            await self.process.wait()
            pause, self.pause_seconds = self.pause_seconds, 0.0
            # One that can't start isn't tried without a pause.
            await asyncio.sleep(pause or (0.0 if time.monotonic() - began > 2 else 0.5))

    async def end(self) -> None:
        if self.keeper is not None:
            self.keeper.cancel()
            await asyncio.gather(self.keeper, return_exceptions=True)
        if self.process is None or self.process.returncode is not None:
            return
        self.signal(signal.SIGCONT)
        self.signal(signal.SIGTERM)
        try:
            async with asyncio.timeout(STOP_SECONDS):
                await self.process.wait()
        except TimeoutError:
            self.signal(signal.SIGKILL)
            await self.process.wait()


@dataclass(slots=True)
class Engine:
    """A null engine behind its proxy, and the journal of all its lives."""

    member: Member
    proxy: FaultProxy
    journal: Path


class Fleet:
    """``async with`` runs them all until it is left."""

    def __init__(self, folder: Path, settings: Mapping[str, str]) -> None:
        self._folder = folder
        self._settings = dict(settings)
        self.engines: list[Engine] = []
        self.workers: list[Member] = []
        self.apis: list[Member] = []
        self.api_urls: list[str] = []
        self.redis: Member | None = None
        self.store = folder / "storage"

    async def __aenter__(self) -> Self:
        self.store.mkdir()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await asyncio.gather(*(one.end() for one in (*self.workers, *self.apis)))
        await asyncio.gather(*(one.member.end() for one in self.engines))
        if self.redis is not None:
            await self.redis.end()
        for engine in self.engines:
            await engine.proxy.__aexit__(None, None, None)

    def start_redis(self, binary: str) -> int:
        """Start a Redis that keeps nothing; its port."""
        port = free_port()
        command = [binary, "--port", str(port), "--bind", "127.0.0.1", "--save", ""]
        command += ["--appendonly", "no", "--dir", str(self._folder)]
        self.redis = self._start("redis", command, {})
        self._settings["REDIS_URL"] = f"redis://127.0.0.1:{port}"
        return port

    async def start_engines(self, count: int, *, run_ms: float) -> None:
        for number in range(count):
            port, journal = free_port(), self._folder / f"engine{number}.journal"
            command = [sys.executable, "-m", "bench.null_engine", "--port", str(port)]
            command += ["--run-ms", str(run_ms), "--journal", str(journal)]
            member = self._start(f"engine{number}", command, {})
            proxy = await FaultProxy("127.0.0.1", port).__aenter__()
            self.engines.append(Engine(member, proxy, journal))

    def start_worker(self) -> None:
        urls = ",".join(f"http://127.0.0.1:{one.proxy.port}" for one in self.engines)
        command = [sys.executable, "-m", "atelier", "worker"]
        name = f"worker{len(self.workers)}"
        self.workers.append(self._start(name, command, {**self._settings, "COMFYUI_URLS": urls}))

    def start_api(self) -> None:
        port = free_port()
        command = [sys.executable, "-m", "atelier", "api"]
        environment = {**self._settings, "HOST": "127.0.0.1", "PORT": str(port)}
        self.apis.append(self._start(f"api{len(self.apis)}", command, environment))
        self.api_urls.append(f"http://127.0.0.1:{port}")

    def _start(self, name: str, command: Sequence[str], settings: Mapping[str, str]) -> Member:
        environment = {**clean_environment(), **settings}
        member = Member(name, command, environment, self._folder / f"{name}.log")
        member.keeper = asyncio.create_task(member.keep(), name=name)
        return member
