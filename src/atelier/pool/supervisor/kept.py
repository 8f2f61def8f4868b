"""What all processes have in common that we keep running: brought up, watched, started again."""

import asyncio
import contextlib
import signal
from abc import ABC, abstractmethod

import structlog

from atelier.errors import ConfigurationError
from atelier.pool.supervisor.backoff import Backoff
from atelier.pool.supervisor.probe import comfyui_answers
from atelier.pool.supervisor.process import Process

log = structlog.get_logger(__name__)

STEADY_SECONDS = 60.0  # one that lived so long is started again without a long pause
LINES_LOGGED = 10


class StartFailed(ConfigurationError):
    """A process could not be started, or ended before it answered."""


class Kept(ABC):
    """A process that speaks ComfyUI's protocol at ``url`` and is started again when it ends.

    It is never given up. ``trouble`` tells a person why it doesn't answer, and is None while it
    does.
    """

    def __init__(
        self,
        name: str,
        *,
        start_seconds: float,
        grace_seconds: float,
        backoff: Backoff,
        poll_seconds: float = 0.1,
    ) -> None:
        self.name = name
        self.url = ""
        self.trouble: str | None = "It is starting."
        self._start_seconds = start_seconds
        self._grace_seconds = grace_seconds
        self._poll_seconds = poll_seconds
        self._backoff = backoff
        self._process: Process | None = None
        self._keeping: asyncio.Task[None] | None = None

    @abstractmethod
    def _launch(self) -> Process:
        """Start the process at ``url``. Raises OSError or ConfigurationError."""

    async def _find(self) -> Process | None:
        """One that others keep and that runs already."""
        return None

    def _ours(self) -> bool:
        """False while somebody else has to start it."""
        return True

    def _last_lines(self) -> list[str]:
        """What it said last."""
        return []

    def _advice(self) -> str:
        """What a person can do who wonders why it doesn't start."""
        return ""

    async def _watch(self, process: Process) -> str:
        """Return why, in a sentence, once it has ended or has to be ended."""
        await process.ended()
        return self._how_it_ended(process)

    def keep(self) -> None:
        """Keep it running from now on, until ``stop``."""
        self._keeping = asyncio.create_task(self._keep_running(), name=f"keep {self.name}")

    async def stop(self, *, end: bool = True) -> None:
        """Keep it no longer, and end it with all that it has started."""
        if self._keeping is not None:
            self._keeping.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._keeping
            self._keeping = None
        if end and self._process is not None:
            await self._process.end(self._grace_seconds)
        self._process = None

    async def _bring_up(self) -> Process:
        """Find or start it, and wait until it answers.

        Raises StartFailed, or OSError where its program can't be run.
        """
        process = self._process or await self._find()
        if process is None:
            if not self._ours():
                raise StartFailed("Whoever keeps it has not started it again yet.")
            process = self._launch()
        self._process = process
        deadline = asyncio.get_running_loop().time() + self._start_seconds
        while not await comfyui_answers(self.url):
            if not process.alive:
                raise StartFailed(self._how_it_ended(process), hint=self._advice())
            if asyncio.get_running_loop().time() > deadline:
                raise StartFailed(
                    f"It did not answer within {self._start_seconds:.0f} s.", hint=self._advice()
                )
            await asyncio.sleep(self._poll_seconds)
        return process

    async def _keep_running(self) -> None:
        loop = asyncio.get_running_loop()
        why = ""
        while True:
            self.trouble = f"{why} It is starting again.".lstrip() if why else "It is starting."
            answered_at: float | None = None
            try:
                process = await self._bring_up()
                answered_at = loop.time()
                self.trouble = None
                log.info("it answers", process=self.name, url=self.url, pid=process.pid)
                why = await self._watch(process)
            except StartFailed as error:
                why = error.message
            except OSError as error:
                why = f"It can't be started: {error}."
            self.trouble = why
            await self._clear_away()
            if answered_at is not None and loop.time() - answered_at >= STEADY_SECONDS:
                self._backoff.reset()
            pause = self._backoff.next_seconds()
            self.trouble = f"{why} It is started again in {pause:.0f} s."
            log.warning(
                "it does not start" if answered_at is None else "it ended",
                process=self.name,
                reason=why,
                failures=self._backoff.failures,
                again_in_seconds=round(pause, 1),
                last_lines=self._last_lines()[-LINES_LOGGED:] or None,
                advice=self._advice() or None,
            )
            await asyncio.sleep(pause)

    async def _clear_away(self) -> None:
        """End what is left of the process, so that the next finds its port and memory free."""
        process, ours = self._process, self._ours()
        if process is None:
            return
        if ours and process.alive:
            await process.end(self._grace_seconds)
        elif ours:
            process.kill_rest()
        # Not before, so that being stopped meanwhile still ends it.
        self._process = None

    def _how_it_ended(self, process: Process) -> str:
        code = process.exit_code
        lines = self._last_lines()
        said = f": {lines[-1].rstrip('.')}" if lines else ""
        if code is None:
            return f"It ended{said}."
        if code >= 0:
            return f"It ended with exit code {code}{said}."
        if code == -getattr(signal, "SIGKILL", 9):
            return f"It was killed, by somebody or by the system for want of memory{said}."
        return f"It was ended by {signal.Signals(-code).name}{said}."
