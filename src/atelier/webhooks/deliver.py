"""Sends what is in the outbox, through the guarded session only."""

import asyncio
import random
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Final, Literal

import aiohttp
import orjson
import structlog
from sqlalchemy.ext.asyncio import AsyncConnection

from atelier.database import Database, DatabaseUnavailable
from atelier.errors import MediaRejected, MediaUnavailable
from atelier.outbound import GuardedSession
from atelier.webhooks.outbox import Delivery, Outbox
from atelier.webhooks.signing import signed_headers

log = structlog.get_logger(__name__)

FIRST_BACKOFF_MS, LONGEST_BACKOFF_MS = 5_000, 4 * 3_600_000
GIVE_UP_MS = 24 * 3_600_000
TIMEOUT_SECONDS = 15.0  # much less than the lease, so that it needs no renewing
POLL_SECONDS = 1.0
AT_ONCE, PER_HOST = 32, 4
# Too early, too often, or waiting for us too long: said with 4xx, but passing.
PASSING_STATUSES: Final = frozenset({408, 425, 429})

Verdict = Literal["delivered", "again", "final"]


def backoff_ms(attempt: int, rng: random.Random) -> int:
    """How long to wait after the failed ``attempt`` (1 is the first): doubling, up to 4 h.

    Between half and the whole of it, so that what failed together doesn't return together.
    """
    longest = min(FIRST_BACKOFF_MS * 2 ** min(attempt - 1, 16), LONGEST_BACKOFF_MS)
    return int(longest * (0.5 + rng.random() / 2))


def verdict(status: int) -> Verdict:
    """What an answer means. A redirect isn't followed, and may be gone the next time."""
    if 200 <= status < 300:
        return "delivered"
    if 400 <= status < 500 and status not in PASSING_STATUSES:
        return "final"
    return "again"


class Deliverer:
    """Takes messages with a lease and sends them; ``now_seconds`` is the time of day.

    A process that dies in the middle leaves its messages to whoever comes after the lease: a
    receiver may get one twice, under the same webhook-id.
    """

    def __init__(
        self,
        *,
        database: Database,
        outbox: Outbox,
        session: GuardedSession,
        secret: str,
        now_seconds: Callable[[], int],
        rng: random.Random,
        timeout_seconds: float = TIMEOUT_SECONDS,
        poll_seconds: float = POLL_SECONDS,
        per_host: int = PER_HOST,
    ) -> None:
        self._database = database
        self._outbox = outbox
        self._session = session
        self._secret = secret
        self._now_seconds = now_seconds
        self._rng = rng
        self._timeout_seconds = timeout_seconds
        self._poll_seconds = poll_seconds
        self._per_host = per_host
        self._sending: Counter[str] = Counter()  # by host
        self._tasks: set[asyncio.Task[None]] = set()
        self._place_free = asyncio.Event()

    async def run(self) -> None:
        """Send until cancelled."""
        try:
            while True:
                self._place_free.clear()
                if not await self._send_due():
                    await self._pause()
        finally:
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _send_due(self) -> bool:
        """Begin to send what is due and has a place; False when there was nothing."""
        free = AT_ONCE - len(self._tasks)
        if free <= 0:
            return False
        places = {host: number for host, number in self._sending.items() if number}

        async def take(conn: AsyncConnection) -> list[Delivery]:
            return await self._outbox.claim(
                conn, limit=free, places=places, per_host=self._per_host
            )

        try:
            # A power loss may undo the claim: then it is sent once more.
            taken = await self._database.run(take, durable=False)
        except DatabaseUnavailable as error:
            log.warning("the database is away", reason=error.message)
            return False
        except Exception:
            log.exception("looking for webhooks failed in a way nobody foresaw")
            return False
        for delivery in taken:
            self._sending[delivery.host] += 1
            task = asyncio.create_task(self._deliver(delivery), name=f"webhook {delivery.id}")
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        return bool(taken)

    async def _pause(self) -> None:
        """Until a place is free again or it is time to look."""
        try:
            async with asyncio.timeout(self._poll_seconds):
                await self._place_free.wait()
        except TimeoutError:
            return

    async def _deliver(self, delivery: Delivery) -> None:
        try:
            await self._record(delivery, *await self._send(delivery))
        except Exception:
            # Its lease runs out, and it is sent again.
            log.exception("a webhook failed in a way nobody foresaw", job=delivery.job)
        finally:
            self._sending[delivery.host] -= 1
            self._place_free.set()

    async def _send(self, delivery: Delivery) -> tuple[Verdict, str, int]:
        """What came of it, in a sentence, and the milliseconds that the receiver asks to wait."""
        body = orjson.dumps(delivery.body)
        signed = signed_headers(self._secret, delivery.id, self._now_seconds(), body)
        headers = {"Content-Type": "application/json", **signed}
        try:
            async with self._session.request(
                "POST",
                delivery.url,
                total_seconds=self._timeout_seconds,
                headers=lambda _: headers,
                data=body,
            ) as response:
                # Nothing of the answer's body is shown: it may come from inside a network.
                said = f"{delivery.host} answered {response.status} {response.reason or ''}"
                return verdict(response.status), f"{said.rstrip()}.", _asked_to_wait_ms(response)
        except MediaRejected as error:
            return "final", error.message, 0
        except MediaUnavailable as error:
            return "again", error.message, 0

    async def _record(self, delivery: Delivery, outcome: Verdict, said: str, wait_ms: int) -> None:
        id, lease = delivery.id, delivery.lease
        delay_ms = max(backoff_ms(delivery.attempt, self._rng), min(wait_ms, LONGEST_BACKOFF_MS))
        if outcome == "again" and delivery.age_ms + delay_ms > GIVE_UP_MS:
            outcome = "final"
        about = log.bind(job=delivery.job, host=delivery.host, attempt=delivery.attempt)
        match outcome:
            case "delivered":
                await self._persist(lambda conn: self._outbox.delivered(conn, id, lease))
                about.info("webhook delivered")
            case "again":
                await self._persist(
                    lambda conn: self._outbox.retry(conn, id, lease, said, delay_ms)
                )
                about.warning("webhook waits", reason=said, seconds=delay_ms // 1000)
            case "final":
                await self._persist(lambda conn: self._outbox.give_up(conn, id, lease, said))
                about.warning("webhook given up", reason=said)

    async def _persist(self, work: Callable[[AsyncConnection], Awaitable[bool]]) -> None:
        """Write however long the database is away; a lease that ran out meanwhile decides."""
        while True:
            try:
                await self._database.run(work)
            except DatabaseUnavailable as error:
                log.warning("the database is away", reason=error.message)
                await asyncio.sleep(self._poll_seconds)
            else:
                return


def _asked_to_wait_ms(response: aiohttp.ClientResponse) -> int:
    """The header Retry-After where it gives seconds."""
    value = response.headers.get("Retry-After", "").strip()
    return int(value) * 1000 if value.isascii() and value.isdigit() and len(value) < 8 else 0
