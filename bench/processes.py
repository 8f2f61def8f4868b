"""Starts what is measured, each as a process of its own on 127.0.0.1, and ends it by its id."""

import asyncio
import contextlib
import os
import socket
import sys
import tempfile
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import aiohttp

from bench.samples import parse_kilobytes

START_SECONDS = 60.0
STOP_SECONDS = 20.0
# What a developer has set must not change what is measured.
_OURS = ("ATELIER_", "COMFYUI_", "DATABASE_URL", "REDIS_URL", "STORAGE_", "HOST", "PORT", "DEBUG")
_OURS_TOO = ("LOG_LEVEL", "MAX_CONCURRENT_TASKS", "TASK_CLEANUP_HOURS")


class DidNotStart(Exception):
    """A process ended or stayed silent; the message ends with what it said."""


@dataclass(frozen=True, slots=True)
class Running:
    url: str
    pid: int
    folder: Path


@asynccontextmanager
async def atelier(
    role: str = "up", *, comfyui: str | None, folder: Path | None = None, **settings: str
) -> AsyncIterator[Running]:
    """`atelier up` (or ``role``) at its defaults, in a data folder that is removed afterwards.

    ``comfyui`` None: without any instance, and without the embedded engine. ``folder``: the data
    folder of another role, shared and kept.
    """
    with contextlib.ExitStack() as stack:
        if folder is None:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="atelier-bench-")))
        port = free_port()
        environment = {
            "ATELIER_DATA_DIR": str(folder),
            "ATELIER_EMBEDDED_ENGINE": "never",
            "HOST": "127.0.0.1",
            "PORT": str(port),
            **settings,
        }
        if comfyui is not None:
            environment["COMFYUI_URLS"] = comfyui
        command = [sys.executable, "-m", "atelier", role]
        log = folder / f"{role}.log"
        async with _process(command, environment, log) as process:
            running = Running(f"http://127.0.0.1:{port}", process.pid, folder)
            address = f"{running.url}/health"
            await _until_answering(address, process, log, instances=comfyui is not None)
            yield running


@asynccontextmanager
async def worker(*, comfyui: str, **settings: str) -> AsyncIterator[int]:
    """`atelier worker` in a data folder of its own, ready to claim: its process id."""
    with tempfile.TemporaryDirectory(prefix="atelier-bench-") as name:
        environment = {"ATELIER_DATA_DIR": name, "COMFYUI_URLS": comfyui, **settings}
        log = Path(name) / "worker.log"
        command = [sys.executable, "-m", "atelier", "worker"]
        async with _process(command, environment, log) as process:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(START_SECONDS):
                    while process.returncode is None and not _is_ready(log):  # noqa: ASYNC110
                        await asyncio.sleep(0.1)
            if not _is_ready(log):
                raise DidNotStart(f"The worker isn't ready. It said:\n{_end_of(log)}")
            yield process.pid


@asynccontextmanager
async def engine() -> AsyncIterator[Running]:
    """The embedded engine alone."""
    with tempfile.TemporaryDirectory(prefix="atelier-bench-engine-") as name:
        folder, port = Path(name), free_port()
        command = [sys.executable, "-m", "atelier.engine", "--port", str(port), "--root", name]
        log = folder / "engine.log"
        async with _process(command, {}, log) as process:
            url = f"http://127.0.0.1:{port}"
            await _until_answering(f"{url}/system_stats", process, log, instances=False)
            yield Running(url, process.pid, folder)


@asynccontextmanager
async def null_engines(
    count: int, *, run_ms: float, switch_ms: float = 0.0
) -> AsyncIterator[Sequence[str]]:
    """The addresses of ``count`` null engines, all in one process."""
    with tempfile.TemporaryDirectory(prefix="atelier-bench-null-") as name:
        ports = [free_port() for _ in range(count)]
        command = [sys.executable, "-m", "bench.null_engine"]
        command += ["--run-ms", str(run_ms), "--switch-ms", str(switch_ms)]
        for port in ports:
            command += ["--port", str(port)]
        log = Path(name) / "engines.log"
        async with _process(command, {}, log) as process:
            urls = [f"http://127.0.0.1:{port}" for port in ports]
            # They listen one after another.
            await _until_answering(f"{urls[-1]}/system_stats", process, log, instances=False)
            yield urls


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def memory_bytes(pid: int) -> tuple[int, int]:
    """Resident and proportional size of a process. Raises OSError where there is no /proc."""
    folder = Path("/proc") / str(pid)
    resident = parse_kilobytes((folder / "status").read_text(), "VmRSS")
    proportional = parse_kilobytes((folder / "smaps_rollup").read_text(), "Pss")
    return resident, proportional


def cpu_seconds(pid: int) -> float | None:
    """User and system time that a process has used so far; None where there is no /proc."""
    try:
        fields = (Path("/proc") / str(pid) / "stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def clean_environment() -> dict[str, str]:
    """Our environment without what sets anything of the service."""
    return {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(_OURS) and name not in _OURS_TOO
    }


@asynccontextmanager
async def _process(
    command: list[str], settings: Mapping[str, str], log: Path
) -> AsyncIterator[asyncio.subprocess.Process]:
    with log.open("wb") as output:
        process = await asyncio.create_subprocess_exec(
            *command, env={**clean_environment(), **settings}, stdout=output, stderr=output
        )
    try:
        yield process
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.terminate()
        try:
            async with asyncio.timeout(STOP_SECONDS):
                await process.wait()
        except TimeoutError:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()


async def _until_answering(
    url: str, process: asyncio.subprocess.Process, log: Path, *, instances: bool
) -> None:
    """Return once ``url`` answers, and the instance is up where there is to be one."""
    timeout = aiohttp.ClientTimeout(total=2)
    with contextlib.suppress(TimeoutError):
        async with (
            asyncio.timeout(START_SECONDS),
            aiohttp.ClientSession(timeout=timeout) as session,
        ):
            while process.returncode is None:
                with contextlib.suppress(aiohttp.ClientError, TimeoutError):
                    async with session.get(url) as response:
                        if response.status == 200 and (not instances or await _has_one(response)):
                            return
                await asyncio.sleep(0.1)
    raise DidNotStart(f"{url} did not answer. The process said:\n{_end_of(log)}")


def _is_ready(log: Path) -> bool:
    """Whether the worker has an instance: already when it says that it runs, or since."""
    said = log.read_bytes()
    return b": ready" in said or (b"atelier worker:" in said and b"instance is up" in said)


def _end_of(log: Path) -> str:
    return log.read_text(errors="replace")[-2000:]


async def _has_one(response: aiohttp.ClientResponse) -> bool:
    health = await response.json()
    return any(one.get("state") == "up" for one in health.get("instances", ()))
