"""``python -m atelier.pool.supervisor.warden FOLDER``: ends ComfyUIs whose atelier was killed.

ComfyUI knows no end of its own, and holds a GPU's memory for as long as it runs. The warden waits
until nobody has the folder's lock, leaves a new atelier time to take over, and ends what is left.
"""

import asyncio
import sys
import time
from pathlib import Path

from atelier.lock import try_lock
from atelier.pool.supervisor.record import WARDEN, end_recorded

LINGER_SECONDS = 300.0  # an upgrade or a restart of the service takes less
LOOK_SECONDS = 2.0


def main(folder: Path, linger_seconds: float = LINGER_SECONDS) -> int:
    """Return once the folder has another owner, or nothing runs in it; 0 either way."""
    lock = folder / "owner.lock"
    while not _free(lock):
        time.sleep(LOOK_SECONDS)
    time.sleep(linger_seconds)
    if not folder.is_dir():
        return 0
    with lock.open("a+b") as handle:
        if not try_lock(handle):
            return 0  # who has taken over keeps a warden too
        asyncio.run(end_recorded(folder, but=[folder / WARDEN]))
    return 0


def _free(lock: Path) -> bool:
    if not lock.parent.is_dir():
        return True
    with lock.open("a+b") as handle:
        return try_lock(handle)


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), *map(float, sys.argv[2:])))
