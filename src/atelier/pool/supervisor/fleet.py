"""All ComfyUI processes that one atelier keeps."""

import asyncio
import sys
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import IO, Self

import structlog

from atelier.errors import ConfigurationError
from atelier.lock import try_lock
from atelier.pool.supervisor.comfyui import ComfyUI
from atelier.pool.supervisor.process import Process
from atelier.pool.supervisor.record import WARDEN, Record, end_recorded

log = structlog.get_logger(__name__)

OWNER = "owner.lock"
DEFAULT_PORT = 8190  # 8188 is where a ComfyUI listens that somebody else has started
OWNER_SECONDS = 20.0  # an atelier that is being stopped hands over its jobs first


class Fleet:
    """``async with Fleet(folder, members)``: the members are started, kept and ended.

    It doesn't wait until they answer, which takes minutes with many custom nodes. ``folder`` holds
    a folder for each member. What an atelier that was killed has left running there is taken over,
    or ended where it is no longer wanted.
    Raises ConfigurationError where another process keeps ``folder``, or it can't be written to.
    """

    def __init__(
        self, folder: Path, members: Sequence[ComfyUI], *, first_port: int = DEFAULT_PORT
    ) -> None:
        self.members = tuple(members)
        self._folder = folder.absolute()
        self._first_port = first_port
        self._lock: IO[bytes] | None = None
        self._warden: Process | None = None

    async def __aenter__(self) -> Self:
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            await self._own()
            await self._end_unwanted()
            self._post_warden()
            taken: set[int] = set()
            for member in self.members:
                await member.prepare(self._first_port, taken)
                taken.add(member.port)
        except OSError as error:
            await self._leave()
            raise ConfigurationError(
                f"The ComfyUI processes can't be kept in {self._folder}: {error}.",
                hint="Give this user the right to write there, or choose ATELIER_DATA_DIR.",
            ) from None
        except BaseException:
            await self._leave()
            raise
        for member in self.members:
            member.keep()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self._leave()

    async def _own(self) -> None:
        """Take the folder's lock, waiting for one who is about to leave."""
        handle = (self._folder / OWNER).open("a+b")
        deadline = asyncio.get_running_loop().time() + OWNER_SECONDS
        while not try_lock(handle):
            if asyncio.get_running_loop().time() > deadline:
                handle.close()
                raise ConfigurationError(
                    f"Another atelier keeps the ComfyUI processes of {self._folder}.",
                    hint="Stop it, or give this one a data folder of its own (ATELIER_DATA_DIR).",
                )
            await asyncio.sleep(0.1)
        self._lock = handle

    async def _end_unwanted(self) -> None:
        """End what runs for devices that aren't ours any more, and the warden of before."""
        ended = await end_recorded(self._folder, but={member.folder for member in self.members})
        if ended:
            log.info("ComfyUIs that are no longer wanted were ended", processes=ended)

    def _post_warden(self) -> None:
        self._warden = Process.start(
            [sys.executable, "-m", "atelier.pool.supervisor.warden", str(self._folder)]
        )
        place = self._folder / WARDEN
        place.mkdir(exist_ok=True)
        record = Record(port=0, pid=self._warden.pid, created=self._warden.created)
        record.write(place)

    async def _leave(self) -> None:
        if self._lock is None:
            return
        await asyncio.gather(*(member.stop() for member in self.members))
        if self._warden is not None:
            await self._warden.end(1.0)
        self._lock.close()
        self._lock = None
