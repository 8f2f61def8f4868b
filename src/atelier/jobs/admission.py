"""Whether a job may join the queue: so many may wait in all, and so many of each user."""

import math
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import ClassVar

from sqlalchemy import bindparam, func, select
from sqlalchemy.ext.asyncio import AsyncConnection

from atelier.errors import LimitReached
from atelier.jobs.job import NewJob
from atelier.jobs.lanes import user_prefix
from atelier.jobs.tables import QUEUED_ROWS, RUNNING_ROWS, jobs, run_times

# A process may let in this part of what is free before it counts again, so that so many
# processes together never let in too many.
PART = 10
COUNTED_FOR_SECONDS = 1.0
FULL_FOR_SECONDS = 0.1  # so long a refusal costs no count
FIRST_RUN_MS = 5000  # before anything is known of how long jobs run
LONGEST_WAIT_SECONDS = 60
USERS_REMEMBERED = 10_000

_J, _R = jobs.c, run_times.c
_QUEUED = select(func.count()).select_from(
    select(_J.id).where(QUEUED_ROWS).limit(bindparam("most")).subquery()
)
_QUEUED_OF_USER = select(func.count()).select_from(
    select(_J.id)
    .where(QUEUED_ROWS, _J.lane >= bindparam("first"), _J.lane < bindparam("end"))
    .limit(bindparam("most"))
    .subquery()
)
_PACE = select(
    select(func.count()).select_from(jobs).where(RUNNING_ROWS).scalar_subquery().label("running"),
    (func.sum(_R.mean_ms * _R.runs) / func.sum(_R.runs)).label("mean_ms"),
)


class QueueFull(LimitReached):
    """As many jobs wait as may. ``data``: ``limit``, ``retry_after_seconds``."""

    code: ClassVar[str] = "QUEUE_FULL"
    default_hint = "Try again later, or cancel jobs that aren't needed any more."


@dataclass(frozen=True, slots=True)
class Limits:
    """How many jobs may wait; 0: any number."""

    max_queued: int = 0
    max_queued_per_user: int = 0


UNLIMITED = Limits()


@dataclass(slots=True)
class _Room:
    left: int
    until: float
    retry_after_seconds: int = 0


class Admission:
    """Counted in the transaction that inserts.

    Exact while one process queues jobs. Of several, each may have counted the same last place
    free when they insert at the same moment: then one too many for each of them.
    """

    def __init__(self, limits: Limits, clock: Callable[[], float]) -> None:
        self.limits = limits
        self._clock = clock
        self._rooms: dict[str | None, _Room] = {}

    async def admit(self, conn: AsyncConnection, new: Sequence[NewJob]) -> list[QueueFull | None]:
        """For each of ``new``, which join next, why it may not; None where it may."""
        joining: Counter[str | None] = Counter()
        if self.limits == UNLIMITED:
            return [None] * len(new)
        return [await self._refusal(conn, job.user, joining) for job in new]

    async def require_room(self, conn: AsyncConnection, user: str) -> None:
        """Raise QueueFull where no job of ``user`` may join."""
        refusal = await self._refusal(conn, user, Counter())
        if refusal is not None:
            raise refusal

    async def _refusal(
        self, conn: AsyncConnection, user: str, joining: Counter[str | None]
    ) -> QueueFull | None:
        limits, total = self.limits, None
        if limits.max_queued:
            total = await self._room(conn, None, limits.max_queued - joining[None])
            if total.left <= 0:
                return QueueFull(
                    f"The queue is full: {limits.max_queued} jobs wait.",
                    limit=limits.max_queued,
                    retry_after_seconds=total.retry_after_seconds,
                )
        if limits.max_queued_per_user:
            own = await self._room(conn, user, limits.max_queued_per_user - joining[user])
            if own.left <= 0:
                return QueueFull(
                    f"{limits.max_queued_per_user} jobs of this user wait, as many as may.",
                    limit=limits.max_queued_per_user,
                    retry_after_seconds=own.retry_after_seconds,
                )
            own.left -= 1
        if total is not None:
            total.left -= 1
        joining.update((None, user))
        return None

    async def _room(self, conn: AsyncConnection, user: str | None, limit: int) -> _Room:
        """``limit`` is without those that join at this moment, which nobody can count yet."""
        now = self._clock()
        room = self._rooms.get(user)
        if room is not None and now < room.until and (room.left > 0 or room.retry_after_seconds):
            return room
        free = limit - await self._count(conn, user, max(limit, 0))
        if free > 0:
            room = _Room(max(free // PART, 1), now + COUNTED_FOR_SECONDS)
        else:
            room = _Room(0, now + FULL_FOR_SECONDS, await self._seconds_to_drain(conn))
        if len(self._rooms) >= USERS_REMEMBERED:
            self._rooms.clear()
        self._rooms[user] = room
        return room

    @staticmethod
    async def _count(conn: AsyncConnection, user: str | None, most: int) -> int:
        if user is None:
            return int((await conn.execute(_QUEUED, {"most": most})).scalar_one())
        first = user_prefix(user)
        # A lane's id goes on in hexadecimal digits, and g comes after them.
        values = {"first": first, "end": first + "g", "most": most}
        return int((await conn.execute(_QUEUED_OF_USER, values)).scalar_one())

    @staticmethod
    async def _seconds_to_drain(conn: AsyncConnection) -> int:
        """Until the next job may have left the queue, at the pace of those that run."""
        row = (await conn.execute(_PACE)).one()
        mean_ms = FIRST_RUN_MS if row.mean_ms is None else float(row.mean_ms)
        seconds = math.ceil(mean_ms / max(int(row.running), 1) / 1000)
        return min(max(seconds, 1), LONGEST_WAIT_SECONDS)
