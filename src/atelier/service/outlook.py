"""Who is next, and when: the policy played forward on what waits now."""

import time
from collections import Counter
from collections.abc import Collection, Mapping
from typing import NamedTuple

from sqlalchemy.ext.asyncio import AsyncConnection

from atelier.database import Database, DatabaseUnavailable
from atelier.jobs.forecast import Expected, forecast
from atelier.jobs.policy import Shares
from atelier.jobs.queue import JobQueue, Rank
from atelier.service.capabilities import Capabilities, parse_requirement
from atelier.service.estimates import Estimates
from atelier.service.standing import Standing, takes_jobs

OLDEST_SECONDS = 1.0
COMPUTING_SHARE = 0.1  # of a process's time, at most
RUN_TIMES_SECONDS = 10.0


class Place(NamedTuple):
    """``position`` 1 is next; ``eta_seconds`` until it ends, None where nothing is known."""

    position: int
    eta_seconds: float | None


class Outlook:
    """Where queued jobs stand. ``max_running`` limits the running jobs of one user."""

    def __init__(
        self,
        *,
        database: Database,
        queue: JobQueue,
        standing: Standing,
        capabilities: Capabilities,
        estimates: Estimates,
        max_running: int | None = None,
    ) -> None:
        self._database = database
        self._queue = queue
        self._standing = standing
        self._capabilities = capabilities
        self._estimates = estimates
        self._max_running = max_running
        self._found: Mapping[str, list[Expected]] = {}
        self._now_ms = 0.0
        self._last = Expected(-1, 0.0, 0.0)
        self._is_stale = True
        self._looked_at = self._run_times_at = float("-inf")
        self._took = 0.0
        self._priorities: dict[str, int] = {}  # by lane
        self._waiting: Counter[int] = Counter()  # how many by priority
        self._added: Counter[int] = Counter()  # since it was played

    def changed(self) -> None:
        """There is more or less in the queue than a moment ago."""
        self._is_stale = True

    async def places(self, conn: AsyncConnection, ids: Collection[str]) -> dict[str, Place]:
        """Where those of ``ids`` stand that are queued, by the last ``look``."""
        if not ids:
            return {}
        ranks = await self._queue.ranks(conn, ids)
        places = {id: place for id, rank in ranks.items() if (place := self._played(rank))}
        # It came after that, or nobody can run it now: by priority and arrival, then.
        others = [id for id in ranks if id not in places]
        found = await self._queue.positions(conn, others)
        return places | {id: self._behind(found[id], ranks[id]) for id in others if id in found}

    def newcomer(self, priority: int, workflow: str, variant: str | None) -> Place:
        """Where a job stands that has just been queued here: behind all that may go before it."""
        others = sum(
            count for known, count in (self._waiting + self._added).items() if known >= priority
        )
        played = [
            expected
            for lane, lanes_priority in self._priorities.items()
            if lanes_priority >= priority
            for expected in self._found[lane]
        ]
        own_ms = self._estimates.expected_ms(workflow, variant, None)
        last_ms = max((expected.start_ms for expected in played), default=self._now_ms)
        begin_ms = self._begin_ms(last_ms, others - len(played), own_ms)
        self._added[priority] += 1
        self._is_stale = True
        return self._told(Expected(others, begin_ms, begin_ms + own_ms))

    async def look(self) -> None:
        """Play it anew where that is due; what was found stays while the database is away."""
        since = time.monotonic() - self._looked_at
        if since < self._took / COMPUTING_SHARE:
            return
        if not self._is_stale and since < OLDEST_SECONDS:
            return
        began = time.monotonic()
        self._is_stale = False
        self._looked_at = began
        self._added.clear()
        try:
            await self._play()
        except DatabaseUnavailable:
            self._is_stale = True
        self._took = time.monotonic() - began

    async def _play(self) -> None:
        async with self._database.read() as conn:
            waiting = await self._queue.waiting(conn)
            shares = await self._queue.shares(conn, {one.lane.user for one in waiting})
            now_ms = await self._queue.time_ms(conn)
            wanted = {one.lane.requirement for one in waiting}
            unknown = {hash for hash in wanted if self._capabilities.known(hash) is None}
            if unknown:
                for hash, body in (await self._queue.requirements(conn, unknown)).items():
                    self._capabilities.remember(parse_requirement(hash, body))
            if time.monotonic() - self._run_times_at > RUN_TIMES_SECONDS:
                self._estimates.recall(await self._queue.run_times(conn))
                self._run_times_at = time.monotonic()
        self._now_ms = float(now_ms)
        self._priorities = {one.lane.id: one.lane.priority for one in waiting}
        self._waiting.clear()
        for one in waiting:
            self._waiting[one.lane.priority] += one.count
        self._found = forecast(
            waiting,
            self._standing.states(self._now_ms),
            Shares(
                virtual_ms=shares.virtual_ms,
                running=shares.running,
                max_running_default=self._max_running,
            ),
            self._standing.costs,
            self._now_ms,
        )
        every = (expected for lane in self._found.values() for expected in lane)
        self._last = max(every, default=Expected(-1, self._now_ms, self._now_ms))

    def _played(self, rank: Rank) -> Place | None:
        expected = self._found.get(rank.lane, [])
        return self._told(expected[rank.before]) if rank.before < len(expected) else None

    def _behind(self, position: int, rank: Rank) -> Place:
        own_ms = self._estimates.expected_ms(rank.workflow, rank.variant, None)
        others = max(position - 1 - (self._last.position + 1), 0)
        begin_ms = self._begin_ms(self._last.start_ms, others, own_ms)
        return self._told(Expected(position - 1, begin_ms, begin_ms + own_ms))

    def _begin_ms(self, last_ms: float, others: int, own_ms: float) -> float:
        states = [state for state in self._standing.states(self._now_ms) if state.up]
        free_ms = min((state.free_at_ms for state in states), default=self._now_ms)
        return max(free_ms, last_ms) + others * own_ms / max(len(states), 1)

    @property
    def _anybody(self) -> bool:
        return any(map(takes_jobs, self._standing.instances))

    def _told(self, expected: Expected) -> Place:
        if not self._estimates.known or not self._anybody:
            return Place(expected.position + 1, None)
        passed_ms = (time.monotonic() - self._looked_at) * 1000
        left_ms = max(expected.end_ms - self._now_ms - passed_ms, 0.0)
        return Place(expected.position + 1, round(left_ms / 1000, 1))
