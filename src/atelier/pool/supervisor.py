"""Starts the embedded engine as a process of its own and keeps it running.

The engine outlives a killed parent for a while (it exits by itself when nobody has talked to it
for ``LINGER_SECONDS``), so that whoever starts next finds the prompts that it ran or still runs.
"""

import asyncio
import contextlib
import json
import os
import signal
import socket
import sys
from pathlib import Path
from types import TracebackType
from typing import IO, Self

import aiohttp
import structlog

from atelier.errors import ConfigurationError
from atelier.lock import try_lock

log = structlog.get_logger(__name__)

ANNOUNCED = "engine.json"  # where an engine writes its address and process id
LINGER_SECONDS = 60.0
START_SECONDS = 30.0  # a cold import of OpenCV on a slow disk
END_SECONDS = 5.0
CHECK_SECONDS = 1.0  # how often an engine that isn't our child is asked whether it lives


class EmbeddedEngine:
    """``async with EmbeddedEngine(folder) as engine``: ``engine.url`` answers.

    A running engine of the same folder is adopted. Who holds the folder's lock owns the engine:
    starts it again when it ends and ends it when leaving; others only use it.
    Raises ConfigurationError when it can't start.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._announce = folder / ANNOUNCED
        self._lock: IO[bytes] | None = None
        self._process: asyncio.subprocess.Process | None = None
        self._pid: int | None = None
        self._watching: asyncio.Task[None] | None = None
        self.url = ""

    async def __aenter__(self) -> Self:
        self._folder.mkdir(parents=True, exist_ok=True)
        try:
            await self._adopt_or_start()
        except BaseException:
            await self._leave()
            raise
        self._watching = asyncio.create_task(self._keep_running(), name="embedded engine")
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._watching is not None:
            self._watching.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._watching
        await self._leave()

    async def _adopt_or_start(self) -> None:
        deadline = asyncio.get_running_loop().time() + START_SECONDS
        while not await self._adopt():
            if self._own():
                self.url = f"http://127.0.0.1:{_free_port()}"
                await self._start()
                return
            if asyncio.get_running_loop().time() > deadline:
                raise ConfigurationError(
                    f"Another process keeps the embedded engine in {self._folder}, "
                    "but the engine does not answer.",
                    hint="Stop that process, or choose another folder with ATELIER_DATA_DIR.",
                )
            await asyncio.sleep(0.2)  # its owner is starting it
        self._own()

    async def _leave(self) -> None:
        """End the engine where it is ours, and let go of the folder."""
        if self._lock is None:
            return
        if self._pid is not None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self._pid, signal.SIGTERM)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(END_SECONDS):
                    await self._until_ended(check_seconds=0.05, silences=1)
            if self._process is not None and self._process.returncode is None:
                self._process.kill()
                await self._process.wait()
        self._lock.close()
        self._lock = None

    def _own(self) -> bool:
        """Take the folder's lock; True when it is ours."""
        if self._lock is None:
            handle = (self._folder / "owner.lock").open("a+b")
            if not try_lock(handle):
                handle.close()
                return False
            self._lock = handle
        return True

    async def _adopt(self) -> bool:
        found = await running_engine(self._folder)
        if found is None:
            return False
        self.url, self._pid = found
        log.info("took over the embedded engine that was still running", url=self.url)
        return True

    async def _start(self) -> None:
        self._announce.unlink(missing_ok=True)
        port = self.url.rpartition(":")[2]
        # A session of its own: Ctrl-C in the terminal must reach us first, so that jobs are
        # handed over before the engine ends.
        self._process = await asyncio.create_subprocess_exec(
            sys.executable,
            *("-m", "atelier.engine", "--host", "127.0.0.1", "--port", port),
            *("--root", str(self._folder), "--announce", str(self._announce)),
            *("--linger", str(LINGER_SECONDS)),
            stdin=asyncio.subprocess.DEVNULL,
            # What reads our output must not wait for an engine that outlives us.
            stdout=asyncio.subprocess.DEVNULL,
            start_new_session=True,
        )
        self._pid = self._process.pid
        try:
            async with asyncio.timeout(START_SECONDS):
                while not await comfyui_answers(self.url):
                    if self._process.returncode is not None:
                        raise ConfigurationError(
                            f"The embedded engine ended at once (exit code "
                            f"{self._process.returncode}).",
                            hint="Its message stands above. Run `atelier engine` to see it alone.",
                        )
                    await asyncio.sleep(0.05)
        except TimeoutError:
            raise ConfigurationError(
                f"The embedded engine did not answer within {START_SECONDS:.0f} s.",
                hint="Run `atelier engine` to see what it says.",
            ) from None

    async def _until_ended(
        self, *, check_seconds: float = CHECK_SECONDS, silences: int = 3
    ) -> int | None:
        """Return its exit code, or None for one that isn't our child.

        That one has ended when it hasn't answered ``silences`` times: a busy machine may keep it
        from answering once.
        """
        if self._process is not None:
            return await self._process.wait()
        unanswered = 0
        while unanswered < silences:
            await asyncio.sleep(check_seconds)
            unanswered = 0 if await comfyui_answers(self.url) else unanswered + 1
        return None

    async def _keep_running(self) -> None:
        pause = 0.5
        while True:
            started = asyncio.get_running_loop().time()
            code = await self._until_ended()
            lived = asyncio.get_running_loop().time() - started
            pause = 0.5 if lived > 30 or self._process is None else min(pause * 2, 30.0)
            log.warning("the embedded engine ended", exit_code=code, again_in_seconds=pause)
            await asyncio.sleep(pause)
            if not self._own():
                continue  # its owner will start it
            try:
                await self._start()
            except (ConfigurationError, OSError) as error:
                log.error("the embedded engine does not start", reason=str(error))


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


async def running_engine(folder: Path) -> tuple[str, int] | None:
    """The address and process id of the engine of ``folder``, if one answers."""
    try:
        announced = json.loads((folder / ANNOUNCED).read_bytes())
        url, pid = str(announced["url"]), int(announced["pid"])
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return (url, pid) if await comfyui_answers(url) else None


async def comfyui_answers(url: str, timeout_seconds: float = 3.0) -> bool:
    """True when something that speaks ComfyUI's protocol answers at ``url``."""
    try:
        async with (
            aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=timeout_seconds)) as session,
            session.get(f"{url}/system_stats") as response,
        ):
            body = await response.json(content_type=None)
            return isinstance(body, dict) and "system" in body
    except (aiohttp.ClientError, TimeoutError, OSError, ValueError):
        return False
