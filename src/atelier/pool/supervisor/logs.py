"""The file that a process writes what it says into: kept short, and read from its end."""

import contextlib
import shutil
from pathlib import Path

MAX_BYTES, OLD_FILES = 5_000_000, 3
TAIL_BYTES = 16_384
LINE_CHARACTERS = 300


def rotate(path: Path, *, max_bytes: int = MAX_BYTES, old_files: int = OLD_FILES) -> bool:
    """Move what ``path`` holds to ``path.1`` (that to ``path.2``, ...) once it is too long.

    It is copied and cut off, since the process has it open and goes on writing into it: that it
    appends makes its next line the first one. What it writes between the two steps is lost.
    """
    try:
        if path.stat().st_size < max_bytes:
            return False
        for number in range(old_files, 1, -1):
            older = path.with_name(f"{path.name}.{number - 1}")
            if older.exists():
                older.replace(path.with_name(f"{path.name}.{number}"))
        shutil.copyfile(path, path.with_name(f"{path.name}.1"))
        with path.open("r+b") as file:
            file.truncate(0)
    except OSError:
        return False  # a full disk must not keep anything from running
    return True


def size_of(path: Path) -> int:
    with contextlib.suppress(OSError):
        return path.stat().st_size
    return 0


def last_lines(path: Path, count: int = 10, *, since: int = 0) -> list[str]:
    """The last ``count`` lines with something in them that were written after byte ``since``."""
    try:
        with path.open("rb") as file:
            size = file.seek(0, 2)
            # Shorter than it was: it has been turned over since.
            file.seek(max(since if since <= size else 0, size - TAIL_BYTES))
            text = file.read(TAIL_BYTES).decode(errors="replace")
    except OSError:
        return []
    lines = [line.strip()[:LINE_CHARACTERS] for line in text.splitlines() if line.strip()]
    return lines[-count:]
