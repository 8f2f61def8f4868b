"""What a run needs from outside, in one value."""

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from atelier.database import Database, Grouped
from atelier.events.bus import Bus
from atelier.jobs.queue import JobQueue, Success
from atelier.media.asset import Asset
from atelier.media.catalog import Catalog
from atelier.media.fetch import Fetcher
from atelier.pool.pool import Pool
from atelier.service.capabilities import Capabilities
from atelier.service.estimates import Estimates
from atelier.service.workflows import Workflows
from atelier.storage.store import Store
from atelier.worker.spool import Spool


@dataclass(frozen=True, slots=True)
class Made:
    """A success, and the files that it brought."""

    success: Success
    assets: tuple[Asset, ...]


@dataclass(frozen=True, slots=True)
class Context:
    """Ports and settings shared by all runs of one worker.

    ``clock`` gives monotonic seconds, ``now_ms`` the time of day. ``record`` finishes a job with
    its files, False where the lease is stale; those that come meanwhile share the next commit.
    """

    worker: str
    database: Database
    queue: JobQueue
    catalog: Catalog
    store: Store
    fetcher: Fetcher
    workflows: Workflows
    capabilities: Capabilities
    estimates: Estimates
    pool: Pool
    bus: Bus
    spool: Spool
    clock: Callable[[], float]
    now_ms: Callable[[], int]
    rng: random.Random = field(default_factory=random.Random)
    job_timeout_seconds: float = 1800.0
    lease_ms: int = 15_000
    record: Grouped[Made, bool] = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "record", self.database.grouped(self._record))

    async def _record(self, conn: Any, made: Sequence[Made]) -> list[bool]:
        done = await self.queue.finish_many(conn, [one.success for one in made])
        files = [
            asset
            for one, is_ours in zip(made, done, strict=True)
            if is_ours
            for asset in one.assets
        ]
        await self.catalog.insert(conn, files)
        return done
