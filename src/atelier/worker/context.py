"""What a run needs from outside, in one value."""

import random
from collections.abc import Callable
from dataclasses import dataclass, field

from atelier.database import Database
from atelier.events.bus import Bus
from atelier.jobs.queue import JobQueue
from atelier.media.catalog import Catalog
from atelier.media.fetch import Fetcher
from atelier.pool.pool import Pool
from atelier.service.capabilities import Capabilities
from atelier.service.estimates import Estimates
from atelier.service.workflows import Workflows
from atelier.storage.store import Store
from atelier.worker.spool import Spool


@dataclass(frozen=True, slots=True)
class Context:
    """Ports and settings shared by all runs of one worker.

    ``clock`` gives monotonic seconds, ``now_ms`` the time of day.
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
