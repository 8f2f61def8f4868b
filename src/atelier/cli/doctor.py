"""`atelier doctor`: each part, whether it works, and what to do where it doesn't."""

import asyncio
import contextlib
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from atelier.app import DEFAULT_COMFYUI, check_data_dir, open_configured_store
from atelier.comfy.client import ComfyClient
from atelier.comfy.object_info import ObjectInfo
from atelier.database import Database
from atelier.errors import AtelierError
from atelier.pool.pool import Pool
from atelier.service import Workflows
from atelier.settings import Settings, load_settings
from atelier.telemetry import configure_logging
from atelier.workflows.library import Lacking, Library, Workflow, lacking, requirements

TIMEOUT_SECONDS = 15.0


@dataclass(frozen=True, slots=True)
class Finding:
    part: str
    ok: bool
    message: str
    hint: str = ""


async def examine(*, data_dir: Path | None, comfyui_urls: str | None) -> bool:
    """Print a finding a line; True when all parts work."""
    settings = load_settings(data_dir=data_dir, comfyui_urls=comfyui_urls)
    configure_logging("ERROR")
    findings = [_data_dir(settings)]
    findings.append(await _database(settings))
    findings.append(await _storage(settings))
    library, faulty = await _library(settings)
    findings += faulty
    urls = settings.comfyui_urls or (DEFAULT_COMFYUI,)
    checked = await asyncio.gather(*(_instance(url, library) for url in urls))
    for group in checked:
        findings += group
    if not settings.comfyui_urls and not checked[0][0].ok:
        findings[-len(checked[0]) :] = [
            Finding(
                "ComfyUI",
                True,
                "none is configured; `atelier up` uses the embedded CPU engine.",
                "Set COMFYUI_URLS=http://host:8188 for diffusion.",
            )
        ]
    console = Console(highlight=False)
    for finding in findings:
        mark = "[green]ok  [/green]" if finding.ok else "[red]FAIL[/red]"
        console.print(f"{mark} {finding.part}: {finding.message}", soft_wrap=True)
        if finding.hint:
            console.print(f"     {finding.hint}", soft_wrap=True)
    return all(finding.ok for finding in findings)


def _failed(part: str, error: AtelierError) -> Finding:
    return Finding(part, False, error.message, error.hint)


def _data_dir(settings: Settings) -> Finding:
    try:
        check_data_dir(settings.data_dir)
    except AtelierError as error:
        return _failed("data folder", error)
    return Finding("data folder", True, str(settings.data_dir.absolute()))


async def _database(settings: Settings) -> Finding:
    try:
        async with await Database.open(settings.database) as database:
            version = await database.version()
            fresh = settings.database_url is None
            if fresh:
                await database.migrate()
            await database.check()
            return Finding("database", True, f"{version}, up to date")
    except AtelierError as error:
        return _failed("database", error)


async def _storage(settings: Settings) -> Finding:
    where = settings.storage.url.split("?")[0]
    try:
        async with asyncio.timeout(TIMEOUT_SECONDS):
            async with open_configured_store(settings) as store:
                await store.check()
    except AtelierError as error:
        return _failed(f"storage {where}", error)
    except TimeoutError:
        return Finding(
            f"storage {where}",
            False,
            f"no answer within {TIMEOUT_SECONDS:.0f} s.",
            "Check the endpoint and the account that the settings give.",
        )
    return Finding(f"storage {where}", True, "written, read, signed and deleted")


async def _library(settings: Settings) -> tuple[Library, list[Finding]]:
    """The workflows that there are, registered ones too, and what is wrong with any."""
    folders = [settings.workflows_dir] if settings.workflows_dir else []
    library = Library(folders, strict=False)
    with contextlib.suppress(AtelierError):  # told where the database is looked at
        async with await Database.open(settings.database) as database:
            await database.check()
            workflows = Workflows(database=database, library=library, pool=Pool())
            await workflows.refresh_registered()
    hint = "Correct the file; a running service uses what it was before."
    return library, [
        Finding("workflows", False, f"{problem}.", hint) for problem in library.problems
    ]


async def _instance(url: str, library: Library) -> list[Finding]:
    part = f"ComfyUI {url}"
    try:
        async with ComfyClient(url, "atelier-doctor") as client:
            # First, since where nobody listens this fails at once.
            system = await client.system_stats()
            await client.wait_connected(5)
            loop = asyncio.get_running_loop()
            started = loop.time()
            await client.system_stats()
            milliseconds = (loop.time() - started) * 1000
            info = await client.object_info()
    except AtelierError as error:
        hint = error.hint or "Start it, and check the address in COMFYUI_URLS."
        return [Finding(part, False, error.message, hint)]
    version = system.get("system", {}).get("comfyui_version", "unknown version")
    findings = [
        Finding(part, True, f"{version}, {len(info.classes)} nodes, {milliseconds:.0f} ms away")
    ]
    lacks = {name: _lacking(library.get(name), info) for name in library.names()}
    runs = [f"{name} ({what})" for name, what in lacks.items() if isinstance(what, str)]
    if runs:
        findings.append(Finding(part, True, f"runs {', '.join(runs)}"))
    for name, what in lacks.items():
        if isinstance(what, Lacking):
            # Nobody installs everything: that some workflow runs is what an instance is for.
            message = f"can't run {name}: its nearest variant lacks {what.in_words()}."
            hint = (
                f"`atelier workflows show {name}` says what each variant needs and where it goes."
            )
            findings.append(Finding(part, bool(runs), message, hint))
    return findings


def _lacking(workflow: Workflow, info: ObjectInfo) -> str | Lacking:
    """The variant that would run, or what is missing for the one that lacks least."""
    missing: list[Lacking] = []
    for alternative in requirements(workflow):
        lacks = lacking(workflow.manifest.variant(alternative.variant), alternative, info)
        if not lacks:
            return alternative.variant
        missing.append(lacks)
    return min(missing, key=lambda one: one.weight)
