"""Downloads kept in a folder, so that an unchanged picture is not transferred again."""

import asyncio
import contextlib
import hashlib
import os
import tempfile
import threading
import time
from dataclasses import dataclass
from pathlib import Path

import orjson

_SUFFIX = ".download"
UNUSED_SECONDS = 24 * 3600.0
PART_SECONDS = 3600.0


@dataclass(frozen=True, slots=True)
class CachedDownload:
    """A download and what its server identified it by; absent identifiers are empty."""

    url: str
    final_url: str
    etag: str
    last_modified: str
    media_type: str
    data: bytes

    def condition(self) -> dict[str, str]:
        """The request headers that ask for the picture only if it has changed."""
        headers = {"If-None-Match": self.etag, "If-Modified-Since": self.last_modified}
        return {name: value for name, value in headers.items() if value}


class DownloadCache:
    """A folder of at most ``max_bytes``; what was longest unused leaves first.

    It may be shared by processes and emptied at any time. What can't be read or written
    counts as absent: a cache never fails a job.
    """

    def __init__(self, folder: Path, *, max_bytes: int = 500_000_000) -> None:
        self._folder = folder
        self._max_bytes = max_bytes
        self._pruning = threading.Lock()

    async def get(self, url: str) -> CachedDownload | None:
        """What is kept for ``url``; it counts as used now."""
        return await asyncio.to_thread(self._get, url)

    async def put(self, download: CachedDownload) -> None:
        """Keep ``download`` in place of what was kept for its url."""
        await asyncio.to_thread(self._put, download)

    async def sweep(self) -> int:
        """Remove what was unused for a day, and what was only partly written; how many files."""
        return await asyncio.to_thread(self._sweep)

    def _sweep(self) -> int:
        removed, now = 0, time.time()
        for pattern, seconds in ((f"*{_SUFFIX}", UNUSED_SECONDS), (".*.part", PART_SECONDS)):
            for path in self._folder.glob(pattern):
                with contextlib.suppress(FileNotFoundError):  # another process sweeps too
                    if not self._max_bytes or now - path.stat().st_mtime > seconds:
                        path.unlink()
                        removed += 1
        return removed

    def _path(self, url: str) -> Path:
        name = hashlib.sha256(url.encode("utf-8", "surrogatepass")).hexdigest()
        return self._folder / f"{name}{_SUFFIX}"

    def _get(self, url: str) -> CachedDownload | None:
        path = self._path(url)
        try:
            head, _, data = path.read_bytes().partition(b"\n")
            fields = orjson.loads(head)
            sha256 = fields.pop("sha256")
            download = CachedDownload(data=data, **fields)
            if download.url != url or hashlib.sha256(data).hexdigest() != sha256:
                return None
            os.utime(path)
        except (OSError, ValueError, TypeError, KeyError, AttributeError):
            return None
        return download

    def _put(self, download: CachedDownload) -> None:
        if len(download.data) > self._max_bytes:
            return
        head = orjson.dumps(
            {
                "url": download.url,
                "final_url": download.final_url,
                "etag": download.etag,
                "last_modified": download.last_modified,
                "media_type": download.media_type,
                "sha256": hashlib.sha256(download.data).hexdigest(),
            }
        )
        with contextlib.suppress(OSError):
            self._folder.mkdir(parents=True, exist_ok=True)
            _write_whole(self._path(download.url), head + b"\n" + download.data)
            self._prune()

    def _prune(self) -> None:
        with self._pruning:
            entries = []
            for path in self._folder.glob(f"*{_SUFFIX}"):
                with contextlib.suppress(FileNotFoundError):  # another process prunes too
                    stat = path.stat()
                    entries.append((stat.st_mtime_ns, stat.st_size, path))
            total = sum(size for _, size, _ in entries)
            for _, size, path in sorted(entries):
                if total <= self._max_bytes:
                    break
                path.unlink(missing_ok=True)
                total -= size


def _write_whole(path: Path, content: bytes) -> None:
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=".", suffix=".part")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
