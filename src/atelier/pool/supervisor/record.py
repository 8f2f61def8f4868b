"""What is written down of a process, so that whoever starts next finds it again."""

import contextlib
import json
import os
from collections.abc import Collection
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Self

from atelier.pool.supervisor.process import Process

FILE = "process.json"
WARDEN = "warden"  # the folder of whoever ends the others
END_SECONDS = 10.0


@dataclass(frozen=True, slots=True)
class Record:
    """``command`` is a hash of how it was started; ``pid`` is None while it doesn't run."""

    port: int
    pid: int | None = None
    created: float | None = None
    command: str = ""

    @classmethod
    def read(cls, folder: Path) -> Self | None:
        try:
            told = json.loads((folder / FILE).read_bytes())
            return cls(
                port=int(told["port"]),
                pid=None if told["pid"] is None else int(told["pid"]),
                created=None if told["created"] is None else float(told["created"]),
                command=str(told["command"]),
            )
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def write(self, folder: Path) -> None:
        partly = folder / f"{FILE}.new"
        with partly.open("w") as file:
            json.dump(asdict(self), file)
            file.flush()
            os.fsync(file.fileno())
        partly.replace(folder / FILE)

    def without_process(self) -> "Record":
        return replace(self, pid=None, created=None)

    @property
    def process(self) -> Process | None:
        """The process, if it still runs."""
        if self.pid is None or self.created is None:
            return None
        return Process.find(self.pid, self.created)


def recorded(folder: Path) -> dict[Path, Record]:
    """What is recorded in the folders within ``folder``."""
    found: dict[Path, Record] = {}
    with contextlib.suppress(OSError):
        for entry in sorted(folder.iterdir()):
            if (record := Record.read(entry)) is not None:
                found[entry] = record
    return found


async def end_recorded(folder: Path, *, but: Collection[Path] = ()) -> int:
    """End the processes recorded in the folders within ``folder``, except ``but``; how many."""
    ended = 0
    for place, record in recorded(folder).items():
        if place in but:
            continue
        if (process := record.process) is not None:
            await process.end(END_SECONDS)
            ended += 1
        with contextlib.suppress(OSError):
            record.without_process().write(place)
    return ended
