"""The ComfyUI instances, or the embedded engine where there is none."""

import asyncio
import tempfile
import time
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any

import aiohttp

from atelier.app import DEFAULT_COMFYUI
from atelier.cli.doctor.finding import Finding, failed, in_gb, of_error, ok, warning
from atelier.cli.doctor.processes import running_processes
from atelier.comfy.client import ComfyClient
from atelier.comfy.object_info import ObjectInfo
from atelier.errors import AtelierError
from atelier.pool.instance import instance_id
from atelier.pool.supervisor.embedded import EmbeddedEngine, running_engine
from atelier.pool.supervisor.probe import comfyui_answers
from atelier.settings import Settings

WEBSOCKET_SECONDS = 5.0
CLOCK_SECONDS = 5.0
ROUND_TRIPS = 3


@dataclass(frozen=True, slots=True)
class Examined:
    """``info`` is None where the instance can't be used."""

    name: str
    findings: tuple[Finding, ...]
    info: ObjectInfo | None = None


async def examine_all(settings: Settings) -> list[Examined]:
    named = [(url, instance_id(url)) for url in settings.comfyui_urls]
    named += await running_processes(settings)
    if named:
        return list(await asyncio.gather(*(examine(url, name) for url, name in named)))
    if settings.comfyui_path is not None:
        return []  # they will be started; what they can do is known then
    if settings.embedded_engine != "always" and await comfyui_answers(DEFAULT_COMFYUI, 1.0):
        return [await examine(DEFAULT_COMFYUI, instance_id(DEFAULT_COMFYUI))]
    return [await _embedded(settings)]


async def examine(url: str, name: str) -> Examined:
    part = f"ComfyUI {url}"
    try:
        async with ComfyClient(url, "atelier-doctor") as client:
            # First, since where nobody listens this fails at once.
            system = await client.system_stats()
            try:
                await client.wait_connected(WEBSOCKET_SECONDS)
            except AtelierError as error:
                return Examined(name, (_deaf(part, error),))
            milliseconds = await _round_trip_ms(client)
            info = await client.object_info()
    except AtelierError as error:
        hint = error.hint or "Start it, and check the address in COMFYUI_URLS."
        return Examined(name, (failed(part, error.message, hint),))
    version = system.get("system", {}).get("comfyui_version") or "unknown version"
    told = [str(version), f"{len(info.classes)} nodes", f"{milliseconds:.0f} ms away"]
    told += _devices(system)
    findings = [ok(part, ", ".join(told)), *await _clock(part, url)]
    return Examined(name, tuple(findings), info)


def _deaf(part: str, error: AtelierError) -> Finding:
    return failed(
        part,
        f"It answers over HTTP, but not over WebSocket: {error.message}",
        "A proxy in between must pass WebSockets on (the headers Upgrade and Connection, /ws).",
    )


async def _round_trip_ms(client: ComfyClient) -> float:
    times = []
    for _ in range(ROUND_TRIPS):
        started = time.perf_counter()
        await client.queue()
        times.append(time.perf_counter() - started)
    return min(times) * 1000


def _devices(system: dict[str, Any]) -> list[str]:
    """What the instance says of its memory, as far as it does."""
    found = []
    for device in system.get("devices") or ():
        name, total, free = (device.get(key) for key in ("name", "vram_total", "vram_free"))
        if name and isinstance(total, int) and isinstance(free, int):
            found.append(f"{name} with {in_gb(free)} of {in_gb(total)} free")
        elif name:
            found.append(str(name))
    return found


async def _clock(part: str, url: str) -> list[Finding]:
    """A warning where the instance's clock is far from ours."""
    timeout = aiohttp.ClientTimeout(total=10)
    try:
        async with aiohttp.ClientSession(timeout=timeout) as session:
            before = time.time()
            async with session.get(f"{url.rstrip('/')}/queue") as response:
                there = parsedate_to_datetime(response.headers["Date"]).timestamp()
            after = time.time()
    except (aiohttp.ClientError, TimeoutError, OSError, KeyError, ValueError):
        return []
    # The header has whole seconds, cut off.
    difference = there + 0.5 - (before + after) / 2
    if abs(difference) <= CLOCK_SECONDS + (after - before):
        return []
    return [
        warning(
            part,
            f"Its clock is {abs(difference):.0f} s {'ahead' if difference > 0 else 'behind'}.",
            "Let both machines follow a time server: names of files and times in its log differ.",
        )
    ]


async def _embedded(settings: Settings) -> Examined:
    part, name = "embedded engine", "embedded"
    if settings.embedded_engine == "never":
        return Examined(
            name,
            (
                failed(
                    part,
                    "No ComfyUI is configured, and ATELIER_EMBEDDED_ENGINE is never.",
                    "Set COMFYUI_URLS=http://host:8188, or allow the engine.",
                ),
            ),
        )
    # Only looked at: who enters it may become its owner, and ends it when leaving.
    running = await running_engine(settings.data_dir / "engine")
    if running is not None:
        return await _of_engine(running[0], name)
    try:
        # In a folder of its own, so that a service which starts now doesn't take it over.
        with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as scratch:
            async with EmbeddedEngine(Path(scratch)) as started:
                return await _of_engine(started.url, name)
    except AtelierError as error:
        return Examined(name, (of_error(part, error),))


async def _of_engine(url: str, name: str) -> Examined:
    found = await examine(url, name)
    if found.info is None:
        return found
    said = ok(
        "embedded engine",
        f"It works, with {len(found.info.classes)} nodes; no ComfyUI is configured. "
        "Set COMFYUI_URLS=http://host:8188 for diffusion.",
    )
    return Examined(name, (said,), found.info)
