"""Sweeps what nobody needs any more, at the start and hourly."""

import asyncio
import itertools
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path

import structlog

from atelier.database import DatabaseUnavailable
from atelier.errors import StorageError
from atelier.media.cache import DownloadCache
from atelier.worker.context import Context
from atelier.worker.expired import (
    expire_assets,
    forget_unused,
    hide_jobs,
    purge_jobs,
    remove_files,
)
from atelier.worker.leftovers import (
    drop_spooled,
    remove_engine_files,
    remove_orphans,
    remove_uploads,
)

log = structlog.get_logger(__name__)

EVERY_SECONDS = 3600.0
ORPHANS_EVERY = 6  # turns: the whole store is listed


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """After which time what goes, and which folders of this machine are looked after.

    ``dialects`` are those whose jobs go ``job_hours`` after they ended. ``own_store``: nobody else
    keeps anything in the store. ``input_folders`` are those of ComfyUIs, where only goes what we
    put there, ``engine`` the folder of the embedded engine, all of which is ours, and ``comfyuis``
    those of the ComfyUIs that we start.
    """

    dialects: tuple[str, ...] = ("transform", "tasks", "workflow_service")
    job_hours: float = 24
    input_hours: float = 24
    output_days: float = 30
    own_store: bool = False
    input_folders: tuple[Path, ...] = ()
    engine: Path | None = None
    comfyuis: tuple[Path, ...] = ()
    downloads: DownloadCache | None = None


async def sweep_forever(context: Context, rules: Rules) -> None:
    """Run ``sweep`` now and every hour."""
    for turn in itertools.count():
        swept = await sweep(context, rules, orphans=turn % ORPHANS_EVERY == 0)
        if swept:
            log.info("swept", **swept)
        await asyncio.sleep(EVERY_SECONDS)


async def sweep(context: Context, rules: Rules, *, orphans: bool = True) -> dict[str, int]:
    """How many of what went, without what nothing went of.

    A part that fails is logged, waits for the next turn and keeps no other from its work.
    """
    steps: dict[str, Callable[[], Awaitable[int]]] = {
        "jobs": lambda: hide_jobs(context, dialects=rules.dialects, hours=rules.job_hours),
        "inputs": lambda: expire_assets(context, kinds=["input"], hours=rules.input_hours),
        "outputs": lambda: expire_assets(
            context, kinds=["output", "preview"], hours=24 * rules.output_days
        ),
        "files": lambda: remove_files(context),
        "rows": lambda: purge_jobs(context),
        "unused": lambda: forget_unused(context),
        "spooled": lambda: drop_spooled(context),
        "uploads": lambda: _remove_uploads(context, rules),
    }
    if orphans:
        steps["orphans"] = lambda: remove_orphans(context, own_store=rules.own_store)
    engine, downloads = rules.engine, rules.downloads
    if engine is not None:
        steps["engine_files"] = lambda: remove_engine_files(engine)
    if rules.comfyuis:
        steps["comfyui_files"] = lambda: _remove_comfyui_files(rules)
    if downloads is not None:
        steps["downloads"] = downloads.sweep
    swept: dict[str, int] = {}
    for name, step in steps.items():
        try:
            swept[name] = await step()
        except (DatabaseUnavailable, StorageError) as error:
            log.warning("sweeping waits for the next turn", what=name, reason=error.message)
        except OSError as error:
            log.warning("sweeping waits for the next turn", what=name, reason=str(error))
        except Exception:
            log.exception("sweeping failed in a way nobody foresaw", what=name)
    return {name: number for name, number in swept.items() if number}


async def _remove_uploads(context: Context, rules: Rules) -> int:
    return sum([await remove_uploads(context, folder) for folder in rules.input_folders])


async def _remove_comfyui_files(rules: Rules) -> int:
    return sum([await remove_engine_files(folder) for folder in rules.comfyuis])
