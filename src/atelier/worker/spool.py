"""What prompts made, kept on this machine's disk while the store is away."""

import asyncio
import contextlib
import json
import os
import shutil
import time
import uuid
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import structlog

from atelier.comfy.protocol import FileRef
from atelier.errors import StorageError
from atelier.worker.items import Item, Made

log = structlog.get_logger(__name__)

MANIFEST = "made.json"
UNFINISHED_SECONDS = 3600.0  # older ones belong to a worker that was killed while writing


class SpoolFull(StorageError):
    """The store is away, and this machine can't keep the result until it is back."""

    code = "STORAGE_SPOOL_FULL"
    default_hint = "Bring the store back; make room in ATELIER_DATA_DIR, or raise ATELIER_SPOOL_MB."


@dataclass(frozen=True, slots=True)
class Spooled:
    """What a run of ``variant`` made, with all its bytes; it ran for ``execute_ms``."""

    variant: str
    execute_ms: int
    made: Made


class Spool:
    """One folder for each job. What is in it has reached the disk, and is whole.

    Several workers may share it: each job belongs to whoever holds its lease.
    """

    def __init__(self, folder: Path, *, max_bytes: int) -> None:
        self._folder = folder
        self._max_bytes = max_bytes
        self._writing = asyncio.Lock()

    async def keep(self, job: str, spooled: Spooled) -> None:
        """Keep it in place of what was kept for ``job`` before. Raises SpoolFull."""
        async with self._writing:
            await asyncio.to_thread(self._keep, job, spooled)

    async def find(self, job: str) -> Spooled | None:
        """What is kept for ``job``; None where that is nothing, or can't be read."""
        if not (self._folder / job).exists():  # nearly always
            return None
        return await asyncio.to_thread(self._find, job)

    async def drop(self, job: str) -> None:
        await asyncio.to_thread(shutil.rmtree, self._folder / job, True)

    async def jobs(self) -> list[str]:
        """For which jobs something is kept."""
        return await asyncio.to_thread(self._jobs)

    async def used(self) -> tuple[int, int]:
        """How many jobs' results are kept, and their bytes."""
        return len(await self.jobs()), await asyncio.to_thread(_size, self._folder)

    def _keep(self, job: str, spooled: Spooled) -> None:
        items = [*spooled.made.results, *spooled.made.previews]
        size = sum(len(item.data or b"") for item in items)
        used = _size(self._folder)
        if used + size > self._max_bytes:
            raise SpoolFull(
                f"The store is away, and the spool can't take {size:,} bytes more: "
                f"it holds {used:,} of {self._max_bytes:,}."
            )
        described = {
            "variant": spooled.variant,
            "execute_ms": spooled.execute_ms,
            "results": len(spooled.made.results),
            "items": [_described(item) for item in items],
        }
        new = self._folder / f".{job}-{uuid.uuid4().hex}"
        try:
            new.mkdir(parents=True)
            for number, item in enumerate(items):
                _write(new / str(number), item.data or b"")
            _write(new / MANIFEST, json.dumps(described).encode())
            _flush_folder(new)
            shutil.rmtree(self._folder / job, ignore_errors=True)
            new.rename(self._folder / job)
            _flush_folder(self._folder)
        except OSError as error:
            shutil.rmtree(new, ignore_errors=True)
            raise SpoolFull(
                f"The store is away, and the spool {self._folder} can't be written to: "
                f"{error.strerror}."
            ) from error

    def _find(self, job: str) -> Spooled | None:
        folder = self._folder / job
        try:
            described: dict[str, Any] = json.loads((folder / MANIFEST).read_bytes())
            items = [
                _item(one, (folder / str(number)).read_bytes())
                for number, one in enumerate(described["items"])
            ]
        except (OSError, ValueError, KeyError, TypeError) as error:
            log.warning("what the spool holds can't be read", job=job, reason=str(error))
            return None
        results = described["results"]
        made = Made(tuple(items[:results]), tuple(items[results:]))
        return Spooled(described["variant"], described["execute_ms"], made)

    def _jobs(self) -> list[str]:
        jobs: list[str] = []
        with contextlib.suppress(FileNotFoundError):
            for entry in os.scandir(self._folder):
                if not entry.name.startswith("."):
                    jobs.append(entry.name)
                elif time.time() - entry.stat().st_mtime > UNFINISHED_SECONDS:
                    shutil.rmtree(entry.path, ignore_errors=True)
        return jobs


def _described(item: Item) -> dict[str, Any]:
    ref = None if item.ref is None else asdict(item.ref)
    return {"node": item.node, "filename": item.filename, "key": item.key, "ref": ref}


def _item(described: Mapping[str, Any], data: bytes) -> Item:
    ref = described["ref"]
    return Item(
        described["node"],
        described["filename"],
        described["key"],
        ref=None if ref is None else FileRef(**ref),
        data=data,
    )


def with_ids(made: Made, like: Made) -> Made:
    """``made`` under the ids that the items of ``like``, the same ones, have."""

    def same(items: tuple[Item, ...], others: tuple[Item, ...]) -> tuple[Item, ...]:
        return tuple(replace(a, id=b.id) for a, b in zip(items, others, strict=True))

    return Made(same(made.results, like.results), same(made.previews, like.previews))


def _size(folder: Path) -> int:
    total = 0
    for path, _, names in os.walk(folder):
        for name in names:
            with contextlib.suppress(FileNotFoundError):  # its job has just ended
                total += (Path(path) / name).stat().st_size
    return total


def _write(path: Path, data: bytes) -> None:
    with path.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def _flush_folder(folder: Path) -> None:
    if os.name == "nt":  # folders can't be opened there
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
