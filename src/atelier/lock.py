"""A file that one process holds for as long as it lives, however it ends."""

import sys
from typing import IO, Any


def try_lock(handle: IO[Any]) -> bool:
    """Lock a file for as long as it is open; False when somebody else has it."""
    if sys.platform == "win32":
        import msvcrt

        try:
            # Far behind the content: Windows locks bytes, and others must be able to read.
            handle.seek(1024)
            msvcrt.locking(handle.fileno(), msvcrt.LK_NBLCK, 1)
        except OSError:
            return False
        return True
    import fcntl

    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True
