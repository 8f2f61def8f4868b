"""What is to be told, until it has been. SQL inside the caller's transaction."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal

from sqlalchemy import bindparam, delete, func, insert, select, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncConnection

from atelier.database import now_ms
from atelier.webhooks.tables import PENDING_ROWS, webhook_secrets, webhooks

State = Literal["pending", "delivered", "dead"]

PENDING: Final = "pending"  # leaves when it is delivered or given up
DELIVERED: Final = "delivered"
DEAD: Final = "dead"

LEASE_MS = 60_000
LONGEST_ERROR = 500
SECRET_NAME = "default"

_W = webhooks.c
_INSERT = insert(webhooks).values(
    status=PENDING, attempts=0, lease=0, due_at_ms=now_ms(), created_at_ms=now_ms()
)
_DUE = (
    select(
        _W.id,
        _W.job_id,
        _W.url,
        _W.host,
        _W.body,
        _W.attempts,
        _W.lease,
        (now_ms() - _W.created_at_ms).label("age_ms"),
    )
    .where(PENDING_ROWS, _W.due_at_ms <= now_ms())
    .order_by(_W.due_at_ms)
    .limit(bindparam("limit"))
    .with_for_update(skip_locked=True)
)
_TAKE = (
    update(webhooks)
    .where(_W.id == bindparam("of"))
    .values(
        lease=_W.lease + 1,
        attempts=_W.attempts + 1,
        due_at_ms=now_ms() + bindparam("lease_ms"),
    )
)
_HELD = update(webhooks).where(_W.id == bindparam("of"), _W.lease == bindparam("held"))
_newest = (
    select(func.max(_W.id).label("id"))
    .where(_W.job_id.in_(bindparam("jobs", expanding=True)))
    .group_by(_W.job_id)
    .subquery()
)
_OF_JOBS = select(_W.job_id, _W.status, _W.attempts, _W.last_error).join_from(
    webhooks, _newest, _W.id == _newest.c.id
)
_BACKLOG = select(func.count(), now_ms() - func.min(_W.created_at_ms)).where(PENDING_ROWS)
_SECRET = select(webhook_secrets.c.secret).where(webhook_secrets.c.name == SECRET_NAME)


@dataclass(frozen=True, slots=True)
class Message:
    """One thing to tell: ``body`` is sent as JSON. ``id`` sorts by time (UUIDv7)."""

    id: str
    job: str
    url: str
    host: str
    event: str
    body: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Delivery:
    """The right to send a message, as long as ``lease`` is its newest.

    ``attempt`` is 1 for the first; ``age_ms`` how long ago there was something to tell.
    """

    id: str
    job: str
    url: str
    host: str
    body: Mapping[str, Any]
    attempt: int
    lease: int
    age_ms: int


@dataclass(frozen=True, slots=True)
class Told:
    """How far the telling of a job's end has come."""

    status: State
    attempts: int
    last_error: str | None


class Outbox:
    """Messages that workers take with a lease, so that two don't send the same one."""

    async def add(self, conn: AsyncConnection, message: Message) -> None:
        """Put ``message`` out, to be sent as soon as the transaction is committed."""
        await conn.execute(
            _INSERT,
            {
                "id": message.id,
                "job_id": message.job,
                "url": message.url,
                "host": message.host,
                "event": message.event,
                "body": message.body,
            },
        )

    async def claim(
        self,
        conn: AsyncConnection,
        *,
        limit: int,
        places: Mapping[str, int],
        per_host: int,
        lease_ms: int = LEASE_MS,
    ) -> list[Delivery]:
        """Take up to ``limit`` messages that are due, at most ``per_host`` to one host.

        ``places`` has, by host, how many are being sent there already: a host that has its
        share is passed over, so that a silent one doesn't hold the others up.
        """
        taken: list[Delivery] = []
        sending = dict(places)
        while len(taken) < limit:
            asked = limit - len(taken)
            full = [host for host, number in sending.items() if number >= per_host]
            query = _DUE.where(_W.host.not_in(full)) if full else _DUE
            rows = (await conn.execute(query, {"limit": asked})).all()
            for row in rows:
                if sending.get(row.host, 0) >= per_host:
                    continue
                sending[row.host] = sending.get(row.host, 0) + 1
                await conn.execute(_TAKE, {"of": row.id, "lease_ms": lease_ms})
                taken.append(_delivery(row))
            if len(rows) < asked:
                break
        return taken

    async def delivered(self, conn: AsyncConnection, id: str, lease: int) -> bool:
        """Record that the receiver has it; False when the lease is stale."""
        return await self._end(conn, id, lease, DELIVERED, None)

    async def give_up(self, conn: AsyncConnection, id: str, lease: int, error: str) -> bool:
        """Record that it will not be sent again; False when the lease is stale."""
        return await self._end(conn, id, lease, DEAD, error)

    async def retry(
        self, conn: AsyncConnection, id: str, lease: int, error: str, delay_ms: int
    ) -> bool:
        """Let it be sent again in ``delay_ms``; False when the lease is stale."""
        values = {"due_at_ms": now_ms() + delay_ms, "last_error": error[:LONGEST_ERROR]}
        held = _HELD.where(PENDING_ROWS).values(values)
        return (await conn.execute(held, {"of": id, "held": lease})).rowcount == 1

    async def _end(
        self, conn: AsyncConnection, id: str, lease: int, status: State, error: str | None
    ) -> bool:
        values: dict[str, Any] = {"status": status, "ended_at_ms": now_ms()}
        values["last_error"] = None if error is None else error[:LONGEST_ERROR]
        result = await conn.execute(_HELD.values(values), {"of": id, "held": lease})
        return result.rowcount == 1

    async def told(self, conn: AsyncConnection, jobs: Collection[str]) -> dict[str, Told]:
        """By job, how far the telling of its last end is; jobs that never ended are absent."""
        if not jobs:
            return {}
        rows = await conn.execute(_OF_JOBS, {"jobs": list(jobs)})
        return {row.job_id: Told(row.status, row.attempts, row.last_error) for row in rows}

    async def backlog(self, conn: AsyncConnection) -> tuple[int, int]:
        """How many messages are to be sent, and milliseconds since the oldest of them came."""
        number, age_ms = (await conn.execute(_BACKLOG)).one()
        return number, age_ms or 0

    async def forget(self, conn: AsyncConnection, jobs: Collection[str]) -> None:
        """Remove what was told, or was to be, of ``jobs``: their own rows go as well."""
        if jobs:
            await conn.execute(delete(webhooks).where(_W.job_id.in_(list(jobs))))

    async def secret(self, conn: AsyncConnection) -> str | None:
        """The secret that was made for this installation, if there is one."""
        return (await conn.execute(_SECRET)).scalar()

    async def keep_secret(self, conn: AsyncConnection, secret: str) -> str:
        """Keep ``secret``, unless one is kept already; return the one that is."""
        known = await self.secret(conn)
        if known is not None:
            return known
        row = {"name": SECRET_NAME, "secret": secret, "created_at_ms": now_ms()}
        try:
            async with conn.begin_nested():
                await conn.execute(insert(webhook_secrets).values(row))
        except IntegrityError:  # another process was faster
            kept: str = (await conn.execute(_SECRET)).scalar_one()
            return kept
        return secret


def _delivery(row: Any) -> Delivery:
    return Delivery(
        id=row.id,
        job=row.job_id,
        url=row.url,
        host=row.host,
        body=row.body,
        attempt=row.attempts + 1,
        lease=row.lease + 1,
        age_ms=row.age_ms,
    )
