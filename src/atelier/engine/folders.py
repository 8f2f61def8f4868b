"""The engine's folders: input, output and temp. No name that a client sends leaves them."""

import mimetypes
import os
import re
import secrets
import time
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Final

from atelier.errors import ConfigurationError, InvalidRequest

KINDS: Final = ("input", "output", "temp")


class OutsideFolder(InvalidRequest):
    """A file name leads out of the engine's folders."""

    code = "ENGINE_PATH_REFUSED"
    default_hint = "Name a file below input, output or temp."


class FolderNotWritable(ConfigurationError):
    """The engine can't keep its files where it was told to."""

    code = "ENGINE_FOLDER_NOT_WRITABLE"
    default_hint = "Choose another folder, or make it writable for this user."


@dataclass(frozen=True, slots=True)
class Slot:
    """Where a new file goes: name ``{prefix}_{counter:05}_.png`` below ``directory``."""

    directory: Path
    prefix: str
    subfolder: str
    counter: int

    def filename(self, batch_number: int, suffix: str = ".png") -> str:
        prefix = self.prefix.replace("%batch_num%", str(batch_number))
        return f"{prefix}_{self.counter + batch_number:05}_{suffix}"


class Folders:
    """Resolves what clients name, and hands out the names of new files."""

    def __init__(self, root: Path) -> None:
        """Make the folders below ``root``; temp starts empty. Raises FolderNotWritable."""
        self.root = root.absolute()
        self._next_counter: dict[tuple[Path, str], int] = {}
        try:
            for kind in KINDS:
                (self.root / kind).mkdir(parents=True, exist_ok=True)
            for left_over in (self.root / "temp").iterdir():
                if left_over.is_file():
                    left_over.unlink()
            probe = self.root / "temp" / "probe"
            probe.write_bytes(b"")
            probe.unlink()
        except OSError as error:
            raise FolderNotWritable(f"Can't write to {self.root}: {error.strerror}.") from error

    def directory(self, kind: str) -> Path | None:
        """Return the folder that ComfyUI calls ``kind`` (input, output or temp)."""
        return self.root / kind if kind in KINDS else None

    def resolve(self, kind: str, *parts: str) -> Path:
        """Return the path of ``parts`` below the folder ``kind``. Raises OutsideFolder."""
        base = self.root / kind
        if kind not in KINDS or any("\0" in part for part in parts):
            raise OutsideFolder(f"{'/'.join(parts)!r} can't be a file of the engine.")
        path = Path(os.path.normpath(base.joinpath(*parts)))
        if not path.is_relative_to(base):
            raise OutsideFolder(f"{'/'.join(parts)!r} leads out of the folder {kind!r}.")
        return path

    def find(self, name: str, kind: str = "input") -> Path:
        """Return the path of a file as a node names it: ``a.png`` or ``sub/a.png [output]``.

        Raises OutsideFolder.
        """
        filename, annotated = split_annotation(name)
        return self.resolve(annotated or kind, filename)

    def input_files(self, *, images_only: bool) -> list[str]:
        """Return the sorted names of the files directly in the input folder."""
        with os.scandir(self.root / "input") as entries:
            names = [entry.name for entry in entries if entry.is_file()]
        if images_only:
            names = [name for name in names if media_type(name).startswith("image/")]
        return sorted(name for name in names if not name.startswith("."))

    def next_slot(self, kind: str, prefix: str, width: int, height: int, count: int) -> Slot:
        """Reserve ``count`` new file names for pictures of this size. Raises OutsideFolder.

        ``prefix`` may hold folders and %width%, %height%, %year%, %month%, %day%, %hour%,
        %minute%, %second%, %date% or %date:yyyy-MM-dd%.
        """
        path = PurePosixPath(os.path.normpath(_fill_in(prefix, width, height)).replace("\\", "/"))
        subfolder = "" if str(path.parent) == "." else str(path.parent)
        directory = self.resolve(kind, subfolder)
        directory.mkdir(parents=True, exist_ok=True)
        counter = self._next_counter.get((directory, path.name), 0)
        # Listing a folder of 10,000 files for each picture would take longer than saving it.
        slot = Slot(directory, path.name, subfolder, counter)
        if counter == 0 or os.path.lexists(directory / slot.filename(0)):
            slot = replace(slot, counter=_highest_counter(directory, path.name) + 1)
        self._next_counter[directory, path.name] = slot.counter + count
        return slot


def split_annotation(name: str) -> tuple[str, str | None]:
    """Split ``a.png [output]`` into the file name and the folder, None without one."""
    for kind in KINDS:
        if name.endswith(f"[{kind}]"):
            return name.removesuffix(f"[{kind}]").removesuffix(" "), kind
    return name, None


def is_file(path: Path) -> bool:
    """Return whether ``path`` is a file; names that no file can have are none."""
    try:
        return path.is_file()
    except (OSError, ValueError):
        return False


def media_type(filename: str) -> str:
    """Return the media type that the name's ending tells."""
    return mimetypes.guess_type(filename)[0] or "application/octet-stream"


def write_atomically(path: Path, data: bytes | memoryview) -> None:
    """Write ``path`` so that nobody ever reads half of it."""
    partial = path.with_name(f".{secrets.token_hex(8)}.part")
    try:
        partial.write_bytes(data)
        partial.replace(path)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise


def _highest_counter(directory: Path, prefix: str) -> int:
    name = re.escape(prefix).replace("%batch_num%", r"\d+")
    pattern = re.compile(name + r"_(\d+)_?", re.ASCII)
    highest = 0
    with os.scandir(directory) as entries:
        for entry in entries:
            if match := pattern.match(entry.name):
                highest = max(highest, int(match[1]))
    return highest


_DATE = re.compile(r"%date(?::([^%]*))?%")
_DATE_TOKENS = re.compile(r"yyyy|yy|MM|M|dd|d|hh|h|mm|m|ss|s")


def _fill_in(prefix: str, width: int, height: int) -> str:
    if "%" not in prefix:
        return prefix
    now = time.localtime()
    values = {
        "width": str(width),
        "height": str(height),
        "year": str(now.tm_year),
        "month": f"{now.tm_mon:02}",
        "day": f"{now.tm_mday:02}",
        "hour": f"{now.tm_hour:02}",
        "minute": f"{now.tm_min:02}",
        "second": f"{now.tm_sec:02}",
    }
    for name, value in values.items():
        prefix = prefix.replace(f"%{name}%", value)
    # In ComfyUI the browser fills these in; clients without one rely on us.
    return _DATE.sub(lambda match: _format_date(match[1] or "yyyy-MM-dd", now), prefix)


def _format_date(pattern: str, now: time.struct_time) -> str:
    parts = {
        "y": now.tm_year,
        "M": now.tm_mon,
        "d": now.tm_mday,
        "h": now.tm_hour,
        "m": now.tm_min,
        "s": now.tm_sec,
    }

    def fill_in(match: re.Match[str]) -> str:
        token = match[0]
        text = str(parts[token[0]])
        return text[-len(token) :] if token[0] == "y" else text.zfill(len(token))

    return _DATE_TOKENS.sub(fill_in, pattern)
