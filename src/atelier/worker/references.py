"""What must stay because something refers to it.

This is the place for whatever wants to keep a job or a file longer than housekeeping would: write
a Keeper and add it to KEEPERS.
"""

import asyncio
import re
from collections.abc import Collection, Sequence
from typing import Protocol

from atelier.worker.context import Context

AT_ONCE = 100  # jobs whose inputs and graphs are in memory

_ID = re.compile("[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")


class Keeper(Protocol):
    """Something that refers to jobs and files. Asked again for every few hundred of them."""

    async def jobs(self, context: Context, ids: Collection[str]) -> Collection[str]:
        """Those of the ended jobs ``ids`` that must stay to be seen."""
        ...

    async def assets(self, context: Context, ids: Collection[str]) -> Collection[str]:
        """Those of the assets ``ids`` whose files must stay."""
        ...


class LiveJobs:
    """Queued and running jobs, jobs that are tried again too, need the files that they name."""

    async def jobs(self, context: Context, ids: Collection[str]) -> Collection[str]:
        return ()

    async def assets(self, context: Context, ids: Collection[str]) -> Collection[str]:
        async with context.database.read() as conn:
            live = await context.queue.all_live(conn)
        wanted, needed = frozenset(ids), set[str]()
        for start in range(0, len(live), AT_ONCE):
            async with context.database.read() as conn:
                texts = await context.queue.carried(conn, live[start : start + AT_ONCE])
            # However an input or a graph names an asset, its id stands there.
            needed |= await asyncio.to_thread(_named, texts, wanted)
        return needed


KEEPERS: Sequence[Keeper] = (LiveJobs(),)


async def free_jobs(context: Context, ids: Collection[str]) -> list[str]:
    """``ids`` without those that somebody keeps."""
    kept = {id for keeper in KEEPERS for id in await keeper.jobs(context, ids)}
    return [id for id in ids if id not in kept]


async def free_assets(context: Context, ids: Collection[str]) -> list[str]:
    """``ids`` without those that somebody keeps."""
    if not ids:
        return []
    kept = {id for keeper in KEEPERS for id in await keeper.assets(context, ids)}
    return [id for id in ids if id not in kept]


def _named(texts: Sequence[str], wanted: frozenset[str]) -> set[str]:
    return {id for text in texts for id in _ID.findall(text) if id in wanted}
