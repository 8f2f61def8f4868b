"""Who this worker is: the same name again after a crash, never the name of one that lives."""

import contextlib
import os
import uuid
from collections.abc import Iterator
from pathlib import Path

from atelier.errors import ConfigurationError
from atelier.lock import try_lock

SLOTS = 64  # workers that share one data folder


@contextlib.contextmanager
def worker_identity(folder: Path) -> Iterator[str]:
    """Hold the first free name in ``folder`` until the context is left, or the process dies.

    A worker that comes back finds its old name and with it the leases that nobody renews.
    Raises ConfigurationError when all names are taken.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(SLOTS):
        path = folder / f"{number:02d}.lock"
        handle = path.open("a+", encoding="ascii")
        if not try_lock(handle):
            handle.close()
            continue
        try:
            handle.seek(0)
            name = handle.read().strip()
            if not name:
                name = f"worker-{uuid.uuid4().hex[:12]}"
                handle.write(name)
                handle.flush()
                os.fsync(handle.fileno())
            yield name
        finally:
            handle.close()
        return
    raise ConfigurationError(
        f"{SLOTS} workers already share the folder {folder}.",
        hint="Give further workers an ATELIER_DATA_DIR of their own.",
    )
