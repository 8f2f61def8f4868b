"""One ComfyUI that is kept running on one device."""

import asyncio
import hashlib
import json
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from pathlib import Path

import structlog

from atelier.pool.supervisor import logs
from atelier.pool.supervisor.backoff import Backoff
from atelier.pool.supervisor.checkout import Checkout
from atelier.pool.supervisor.devices import Device
from atelier.pool.supervisor.kept import Kept, StartFailed
from atelier.pool.supervisor.probe import comfyui_answers, comfyui_is_idle, port_is_free
from atelier.pool.supervisor.process import Process
from atelier.pool.supervisor.record import Record

log = structlog.get_logger(__name__)

LAST_PORT = 65535


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """When a ComfyUI is ended and started again although it runs.

    Over ``memory_bytes`` as soon as it is idle, over ``memory_hard_bytes`` at once; when it hasn't
    answered for ``silent_seconds``: by then its jobs have long been given to others. Custom nodes
    may install packages at the start, hence the long ``start_seconds``.
    """

    memory_bytes: int | None = None
    memory_hard_bytes: int | None = None
    silent_seconds: float = 120.0
    start_seconds: float = 900.0
    grace_seconds: float = 10.0
    check_seconds: float = 2.0
    ask_seconds: float = 10.0
    first_pause_seconds: float = 1.0
    longest_pause_seconds: float = 60.0
    log_bytes: int = logs.MAX_BYTES


class ComfyUI(Kept):
    """Keeps one ComfyUI of ``checkout`` on ``device`` running, with its files in ``folder``.

    Models and custom nodes are those of the checkout; input, output, temporary and user files are
    its own, for a ComfyUI empties its temporary folder and locks its database.
    """

    def __init__(
        self,
        checkout: Checkout,
        device: Device,
        folder: Path,
        *,
        log_file: Path,
        arguments: tuple[str, ...] = (),
        environment: Mapping[str, str],
        limits: Limits,
    ) -> None:
        super().__init__(
            device.id,
            start_seconds=limits.start_seconds,
            grace_seconds=limits.grace_seconds,
            backoff=Backoff(limits.first_pause_seconds, limits.longest_pause_seconds),
        )
        self.id = device.id
        self.device = device
        self.folder = folder.absolute()
        self.log_file = log_file.absolute()
        # True while a job of ours is there or about to be; set by whoever knows.
        self.busy: Callable[[], bool] = lambda: False
        self._checkout = checkout
        self._arguments = arguments
        self._environment = {
            **environment,
            "PYTHONUNBUFFERED": "1",  # or its last words stay in a buffer when it is killed
            "PYTHONIOENCODING": "utf-8",
            **device.environment,
        }
        self._limits = limits
        self._port = 0
        self._log_starts_at = 0

    @property
    def port(self) -> int:
        return self._port

    def explain(self) -> str | None:
        """Why it doesn't answer, and where to read more; None while it does."""
        return None if self.trouble is None else f"{self.trouble} Its log is {self.log_file}."

    async def prepare(self, first_port: int, taken: Collection[int]) -> None:
        """Choose its port, and take over the process of its folder that still runs.

        The port of before is kept where it is free, else it is the first free one from
        ``first_port`` on that isn't ``taken``. One that was started differently is ended.
        Raises OSError where its folders can't be made.
        """
        for part in ("input", "output", "temp", "user"):
            (self.folder / part).mkdir(parents=True, exist_ok=True)
        self.log_file.parent.mkdir(parents=True, exist_ok=True)
        before = Record.read(self.folder)
        running = before.process if before is not None else None
        if before is not None and running is not None:
            self._at(before.port)
            if before.port not in taken and before.command == self._fingerprint():
                self._process = running
                log.info("took over a ComfyUI that was still running", process=self.id,
                         url=self.url, pid=running.pid)  # fmt: skip
                return
            log.info("a ComfyUI that was started differently is ended", process=self.id)
            await running.end(self._grace_seconds)
        if before is not None and before.port not in taken and port_is_free(before.port):
            self._at(before.port)
        else:
            ports = range(first_port, LAST_PORT + 1)
            self._at(next(port for port in ports if port not in taken and port_is_free(port)))
        Record(port=self._port).write(self.folder)

    async def stop(self, *, end: bool = True) -> None:
        await super().stop(end=end)
        if end and (record := Record.read(self.folder)) is not None:
            record.without_process().write(self.folder)

    def command(self) -> list[str]:
        """How it is started. Options that this version doesn't know are left out."""
        wanted = (
            ("--listen", "127.0.0.1"),
            ("--port", str(self._port)),
            ("--disable-auto-launch",),
            ("--preview-method", "auto"),
            ("--input-directory", str(self.folder / "input")),
            ("--output-directory", str(self.folder / "output")),
            # It makes a folder `temp` in there, which it removes when it starts.
            ("--temp-directory", str(self.folder / "temp")),
            ("--user-directory", str(self.folder / "user")),
            ("--database-url", f"sqlite:///{(self.folder / 'user' / 'comfyui.db').as_posix()}"),
        )
        known = [word for option in wanted if self._checkout.knows(option[0]) for word in option]
        return [
            str(self._checkout.python),
            str(self._checkout.folder / "main.py"),
            *known,
            *self.device.arguments,
            *self._arguments,  # last, since the last one counts
        ]

    def _at(self, port: int) -> None:
        self._port = port
        self.url = f"http://127.0.0.1:{port}"

    def _fingerprint(self) -> str:
        seen = [self.command(), dict(self.device.environment)]
        return hashlib.sha256(json.dumps(seen).encode()).hexdigest()

    def _launch(self) -> Process:
        if not port_is_free(self._port):
            raise StartFailed(f"Port {self._port} is used by another program.")
        logs.rotate(self.log_file, max_bytes=self._limits.log_bytes)
        self._log_starts_at = logs.size_of(self.log_file)
        process = Process.start(
            self.command(),
            folder=self._checkout.folder,
            environment=self._environment,
            output=self.log_file,
        )
        Record(
            port=self._port, pid=process.pid, created=process.created, command=self._fingerprint()
        ).write(self.folder)
        return process

    def _last_lines(self) -> list[str]:
        return logs.last_lines(self.log_file, since=self._log_starts_at)

    def _advice(self) -> str:
        return f"All that it said stands in {self.log_file}. `atelier doctor` checks its Python."

    async def _watch(self, process: Process) -> str:
        loop = asyncio.get_running_loop()
        answered_at = ask_at = loop.time()
        while True:
            try:
                async with asyncio.timeout(self._limits.check_seconds):
                    await process.ended()
                return self._how_it_ended(process)
            except TimeoutError:
                pass
            logs.rotate(self.log_file, max_bytes=self._limits.log_bytes)
            if why := await self._over_memory(process):
                return why
            if loop.time() >= ask_at:
                if await comfyui_answers(self.url, self._limits.ask_seconds):
                    answered_at, self.trouble = loop.time(), None
                silence = loop.time() - answered_at
                if silence >= self._limits.silent_seconds:
                    return f"It did not answer for {silence:.0f} s, so it was ended."
                ask_at = loop.time() + self._limits.ask_seconds

    async def _over_memory(self, process: Process) -> str | None:
        """Why it has to be ended for the memory that it holds."""
        soft, hard = self._limits.memory_bytes, self._limits.memory_hard_bytes
        if soft is None and hard is None:
            return None
        held = await asyncio.to_thread(process.memory_bytes)
        if hard is not None and held > hard:
            return f"It held {_gb(held)} of memory, over the hard limit of {_gb(hard)}."
        if soft is None or held <= soft or self.busy() or not await comfyui_is_idle(self.url):
            return None
        return f"It held {_gb(held)} of memory when idle, over the limit of {_gb(soft)}."


def _gb(size_bytes: int) -> str:
    return f"{size_bytes / 10**9:.2f} GB"
