"""The SQL queue. Its methods run inside the caller's transaction; none commits."""

import time
from collections.abc import Callable

from atelier.database import Dialect
from atelier.jobs.acceptance import Acceptance
from atelier.jobs.admission import UNLIMITED, Admission, Limits, QueueFull
from atelier.jobs.claims import LEASE_MS, Choose, Renewed
from atelier.jobs.job import Claim
from atelier.jobs.listing import Listing, Page
from atelier.jobs.outcomes import Cancelled, OnEnd
from atelier.jobs.retention import Retention
from atelier.jobs.shares import RunKey, RunTime, Shares, UserShares
from atelier.jobs.statistics import JobStats, Statistics, Times
from atelier.jobs.success import Success
from atelier.jobs.successes import Successes
from atelier.jobs.taking import Ask, Taking

__all__ = [
    "LEASE_MS",
    "Ask",
    "Cancelled",
    "Choose",
    "Claim",
    "JobQueue",
    "JobStats",
    "Limits",
    "Page",
    "QueueFull",
    "Renewed",
    "RunKey",
    "RunTime",
    "Success",
    "Times",
    "UserShares",
]


class JobQueue(Acceptance, Taking, Successes, Listing, Statistics, Shares, Retention):
    """One table, both record and queue: inserting is enqueuing, claiming is an update.

    The first argument of every method is a connection, from ``database.transaction()`` or
    ``database.run`` for what writes, ``database.read()`` for what doesn't. ``on_end`` as in
    ``Outcomes``; ``limits`` are those of ``Admission``, whose ``clock`` gives monotonic seconds.
    """

    def __init__(
        self,
        dialect: Dialect,
        *,
        on_end: OnEnd | None = None,
        limits: Limits = UNLIMITED,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        Taking.__init__(self, dialect)
        Admission.__init__(self, limits, clock)
        self.on_end = on_end
