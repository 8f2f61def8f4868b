"""Where pictures are decoded: a few threads beside the event loop."""

import asyncio
import functools
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
R = TypeVar("R")

# Each decoding holds a whole picture in memory: as many at once as there are cores, at most 4.
THREADS = min(4, os.cpu_count() or 1)
_POOL = ThreadPoolExecutor(THREADS, thread_name_prefix="pictures")


async def in_pool(work: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
    loop = asyncio.get_running_loop()
    return await loop.run_in_executor(_POOL, functools.partial(work, *args, **kwargs))
