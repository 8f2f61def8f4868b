"""One process: our child, or one that an atelier before us has left running."""

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Self

import psutil

POLL_SECONDS = 0.1  # a process that isn't our child can't be waited for, only looked at
KILL_SECONDS = 5.0  # a process that the kernel holds in a device driver dies late
SAME_START_SECONDS = 0.01  # the kernel's clock ticks in hundredths


class Process:
    """A running process and all that it has started.

    ``created`` is when it began (seconds since 1970, as the operating system tells): with it a
    recorded process id is known to be still that process and no later one.
    """

    def __init__(self, known: psutil.Process, child: subprocess.Popen[bytes] | None = None) -> None:
        self._known = known
        self._child = child
        self.pid = known.pid
        self.created = known.create_time()

    @classmethod
    def start(
        cls,
        command: Sequence[str],
        *,
        folder: Path | None = None,
        environment: Mapping[str, str] | None = None,
        output: Path | None = None,
    ) -> Self:
        """Start ``command`` in ``folder``; what it says is added to ``output``, else not kept.

        Raises OSError where it can't be started.
        """
        with contextlib.ExitStack() as opened:
            # Appending to a file, not a pipe: the process may outlive us, and whoever writes
            # into a pipe that nobody reads is killed or waits for ever.
            file = opened.enter_context(output.open("ab")) if output else None
            # A session of its own: Ctrl-C in the terminal must reach us first, so that jobs are
            # handed over before the process ends.
            child = subprocess.Popen(
                list(command),
                cwd=folder,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=file or subprocess.DEVNULL,
                stderr=subprocess.STDOUT if file else None,
                start_new_session=True,
                creationflags=getattr(subprocess, "CREATE_NEW_PROCESS_GROUP", 0),
            )
        try:
            return cls(psutil.Process(child.pid), child)
        except psutil.Error as error:  # where even its zombie can't be looked at
            child.kill()
            child.wait()
            raise OSError(f"It can't be looked at: {error}") from None

    @classmethod
    def find(cls, pid: int, created: float | None = None) -> Self | None:
        """The process ``pid`` if it lives and, where that is known, began at ``created``."""
        try:
            found = cls(psutil.Process(pid))
        except psutil.Error:
            return None
        if created is not None and abs(found.created - created) > SAME_START_SECONDS:
            return None
        return found if found.alive else None

    @property
    def alive(self) -> bool:
        if self._child is not None:
            return self._child.poll() is None
        try:
            return self._known.is_running() and self._known.status() != psutil.STATUS_ZOMBIE
        except psutil.Error:
            return False

    @property
    def exit_code(self) -> int | None:
        """Negative: the signal that ended it. None while it lives, or where nobody can know."""
        return self._child.poll() if self._child is not None else None

    async def ended(self) -> None:
        """Return once it is gone."""
        while True:
            if not self.alive:
                return
            await asyncio.sleep(POLL_SECONDS)

    async def end(self, grace_seconds: float) -> None:
        """Ask it and all that it has started to end; kill what is left after ``grace_seconds``."""
        descendants = self._descendants()
        self._signal_group(signal.SIGTERM)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(grace_seconds):
                await self.ended()
        self.kill_rest(descendants)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(KILL_SECONDS):
                await self.ended()

    def kill_rest(self, descendants: "Iterable[psutil.Process]" = ()) -> None:
        """Kill what is left of it: its group, and those of ``descendants`` that have left it."""
        self._signal_group(getattr(signal, "SIGKILL", signal.SIGTERM))
        for one in descendants:
            with contextlib.suppress(psutil.Error):
                one.kill()  # psutil makes sure that it is still the same process

    def memory_bytes(self) -> int:
        """What it and all that it has started hold in memory for themselves.

        Files that are mapped into memory, such as models, don't count where the system tells
        them apart: it takes that memory back when it needs it.
        """
        total = 0
        for one in [self._known, *self._descendants()]:
            with contextlib.suppress(psutil.Error):
                told = one.memory_info()
                total += max(0, told.rss - getattr(told, "shared", 0))
        return total

    def _descendants(self) -> list[psutil.Process]:
        try:
            return self._known.children(recursive=True)
        except psutil.Error:
            return []

    def _signal_group(self, number: int) -> None:
        with contextlib.suppress(ProcessLookupError, PermissionError, psutil.Error):
            if sys.platform == "win32":
                self._known.kill()
            else:
                # Its group has its id, for it leads its session. The id of a group in which
                # somebody lives is given to no other process.
                os.killpg(self.pid, number)
