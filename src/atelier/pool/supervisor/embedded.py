"""The embedded engine as a process of its own that is kept running.

The engine outlives a killed parent for a while (it exits by itself when nobody has talked to it
for ``LINGER_SECONDS``), so that whoever starts next finds the prompts that it ran or still runs.
"""

import asyncio
import json
import sys
from pathlib import Path
from types import TracebackType
from typing import IO, Self

import structlog

from atelier.errors import ConfigurationError
from atelier.lock import try_lock
from atelier.pool.supervisor.backoff import Backoff
from atelier.pool.supervisor.kept import Kept, StartFailed
from atelier.pool.supervisor.probe import any_free_port, comfyui_answers
from atelier.pool.supervisor.process import Process

log = structlog.get_logger(__name__)

ANNOUNCED = "engine.json"  # where an engine writes its address and process id
LINGER_SECONDS = 60.0
START_SECONDS = 30.0  # a cold import of OpenCV on a slow disk
END_SECONDS = 5.0


class EmbeddedEngine(Kept):
    """``async with EmbeddedEngine(folder) as engine``: ``engine.url`` answers.

    A running engine of the same folder is adopted. Who holds the folder's lock owns the engine:
    starts it again when it ends and ends it when leaving; others only use it.
    Raises ConfigurationError when it can't start.
    """

    def __init__(self, folder: Path) -> None:
        super().__init__(
            "embedded engine",
            start_seconds=START_SECONDS,
            grace_seconds=END_SECONDS,
            backoff=Backoff(0.5, 30.0),
            poll_seconds=0.05,
        )
        self._folder = folder
        self._announce = folder / ANNOUNCED
        self._lock: IO[bytes] | None = None

    async def __aenter__(self) -> Self:
        self._folder.mkdir(parents=True, exist_ok=True)
        try:
            await self._adopt_or_start()
        except BaseException:
            await self._leave()
            raise
        self.keep()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self._leave()

    async def _adopt_or_start(self) -> None:
        deadline = asyncio.get_running_loop().time() + START_SECONDS
        while (process := await self._find()) is None:
            if self._ours():
                self.url = f"http://127.0.0.1:{any_free_port()}"
                try:
                    await self._bring_up()
                except StartFailed as error:
                    raise ConfigurationError(
                        f"The embedded engine does not start. {error.message}", hint=error.hint
                    ) from None
                except OSError as error:
                    raise ConfigurationError(
                        f"The embedded engine can't be started: {error}."
                    ) from None
                return
            if asyncio.get_running_loop().time() > deadline:
                raise ConfigurationError(
                    f"Another process keeps the embedded engine in {self._folder}, "
                    "but the engine does not answer.",
                    hint="Stop that process, or choose another folder with ATELIER_DATA_DIR.",
                )
            await asyncio.sleep(0.2)  # its owner is starting it
        log.info("took over the embedded engine that was still running", url=self.url)
        self._process = process
        self._ours()

    async def _leave(self) -> None:
        """End the engine where it is ours, and let go of the folder."""
        await self.stop(end=self._lock is not None)
        if self._lock is not None:
            self._lock.close()
            self._lock = None

    def _ours(self) -> bool:
        """Take the folder's lock; True when it is ours."""
        if self._lock is None:
            handle = (self._folder / "owner.lock").open("a+b")
            if not try_lock(handle):
                handle.close()
                return False
            self._lock = handle
        return True

    async def _find(self) -> Process | None:
        found = await running_engine(self._folder)
        if found is None:
            return None
        url, pid = found
        process = Process.find(pid)
        if process is not None:
            self.url = url
        return process

    def _launch(self) -> Process:
        self._announce.unlink(missing_ok=True)
        return Process.start(
            [
                sys.executable,
                *("-m", "atelier.engine", "--host", "127.0.0.1"),
                *("--port", self.url.rpartition(":")[2]),
                *("--root", str(self._folder), "--announce", str(self._announce)),
                *("--linger", str(LINGER_SECONDS)),
            ]
        )

    def _advice(self) -> str:
        return "Its message stands above. Run `atelier engine` to see it alone."


async def running_engine(folder: Path) -> tuple[str, int] | None:
    """The address and process id of the engine of ``folder``, if one answers."""
    try:
        announced = json.loads((folder / ANNOUNCED).read_bytes())
        url, pid = str(announced["url"]), int(announced["pid"])
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return (url, pid) if await comfyui_answers(url) else None
