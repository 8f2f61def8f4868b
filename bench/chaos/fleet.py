"""The processes of a run, each started, killed and frozen by its id."""

import asyncio
import contextlib
import signal
import sys
import time
from collections.abc import Mapping
from pathlib import Path

import aiohttp

from bench.processes import DidNotStart, foreign_environment

START_SECONDS = 60.0
_REPOSITORY = Path(__file__).parents[2]  # where ``python -m bench`` can be said


class Member:
    """One process that can be started again. ``deaths`` are the times (epoch s) of SIGKILLs."""

    def __init__(
        self, name: str, arguments: list[str], settings: Mapping[str, str], folder: Path
    ) -> None:
        self.name = name
        self.folder = folder
        self._command = [sys.executable, "-m", *arguments]
        self._settings = dict(settings)
        self._process: asyncio.subprocess.Process | None = None
        self.deaths: list[float] = []
        self.starts = 0
        self.busy = False  # a blow is at work on it
        self.url = ""
        folder.mkdir(parents=True, exist_ok=True)

    async def start(self) -> None:
        self.starts += 1
        with (self.folder / "output.log").open("ab") as output:
            self._process = await asyncio.create_subprocess_exec(
                *self._command,
                cwd=_REPOSITORY,
                env={**foreign_environment(), **self._settings},
                stdin=asyncio.subprocess.DEVNULL,
                stdout=output,
                stderr=output,
            )

    @property
    def alive(self) -> bool:
        return self._process is not None and self._process.returncode is None

    @property
    def identity(self) -> str:
        """What a worker calls itself; empty before it has chosen."""
        path = self.folder / "data" / "workers" / "00.lock"
        return path.read_text().strip() if path.exists() else ""

    async def kill(self) -> float:
        """SIGKILL; the time (epoch s) at which it was sent."""
        at = time.time()
        if self._process is not None and self.alive:
            self.deaths.append(at)
            self._process.kill()
            await self._process.wait()
        return at

    def freeze(self) -> None:
        if self._process is not None and self.alive:
            self._process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        if self._process is not None and self.alive:
            self._process.send_signal(signal.SIGCONT)

    async def stop(self, seconds: float = 30.0) -> bool:
        """SIGTERM; whether it went by itself."""
        if self._process is None or not self.alive:
            return True
        self._process.terminate()
        try:
            async with asyncio.timeout(seconds):
                await self._process.wait()
        except TimeoutError:
            await self.kill()
            return False
        return True

    async def until_saying(self, words: str) -> None:
        """Return once it has said ``words`` as often as it was started. Raises DidNotStart."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(START_SECONDS):
                while self.alive:
                    if self.said.count(words) >= self.starts:
                        return
                    await asyncio.sleep(0.05)
        raise DidNotStart(f"{self.name} did not start. It said:\n{self.said[-2000:]}")

    @property
    def said(self) -> str:
        return (self.folder / "output.log").read_text(errors="replace")

    async def until_answering(self, path: str = "/system_stats") -> None:
        """Return once it answers over HTTP. Raises DidNotStart."""
        timeout = aiohttp.ClientTimeout(total=2)
        with contextlib.suppress(TimeoutError):
            async with (
                asyncio.timeout(START_SECONDS),
                aiohttp.ClientSession(timeout=timeout) as session,
            ):
                while self.alive:
                    with contextlib.suppress(aiohttp.ClientError, TimeoutError):
                        async with session.get(f"{self.url}{path}") as response:
                            if response.status < 500:
                                return
                    await asyncio.sleep(0.05)
        raise DidNotStart(f"{self.name} did not answer. It said:\n{self.said[-2000:]}")


async def end(members: list[Member]) -> None:
    """Leave no process behind."""
    for member in members:
        member.thaw()
    await asyncio.gather(*(member.stop(5) for member in members), return_exceptions=True)
