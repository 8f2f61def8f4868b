"""One listener of the in-process bus: a bounded mailbox of batches."""

import asyncio
from collections import deque
from collections.abc import Iterable

from atelier.events.batch import EMPTY, Batch, coalesced
from atelier.events.bus import SlowSubscriber
from atelier.events.event import COALESCED_TYPES, Event, parse_id

_FEW_BATCHES = 8


class MemorySubscription:
    """``since`` and ``now_ms`` are the moment of subscribing.

    ``missed`` is what came since the listener's last event; None: nobody knows. ``backlog`` is
    how many events may wait unread, not counting progress.
    """

    def __init__(
        self, *, since: str, now_ms: int, missed: Iterable[Event] | None, backlog: int
    ) -> None:
        self._since = since
        self._now_ms = now_ms
        self._since_order = parse_id(since) or (0, 0)
        self._resumed = missed is not None
        self._backlog = backlog
        self._loop = asyncio.get_running_loop()
        self._mail: deque[Batch] = deque()
        if missed:
            self._mail.append(Batch(missed))
        self._unread = 0
        self._waiter: asyncio.Future[None] | None = None
        self._single: deque[Event] = deque()
        self._overrun = False
        self._closed = False

    @property
    def resumed(self) -> bool:
        return self._resumed

    @property
    def since(self) -> str:
        return self._since

    @property
    def pending(self) -> int:
        return len(self._single) + sum(len(batch) for batch in self._mail)

    @property
    def closed(self) -> bool:
        return self._closed

    def begin_with(self, *events: Event) -> None:
        if events:
            stamped = (e if e.id else e.stamped(self._since, self._now_ms) for e in events)
            self._mail.appendleft(Batch(stamped))
            self._ring()

    def deliver(self, batch: Batch) -> None:
        """Take what came after this listener did."""
        batch = batch.after(self._since_order)
        if not batch or self._overrun or self._closed:
            return
        self._mail.append(batch)
        self._unread += len(batch)
        if len(self._mail) > _FEW_BATCHES or self._unread > self._backlog:
            self._tidy()
        self._ring()

    def _tidy(self) -> None:
        """Merge what lies unread into one batch, or give the listener up."""
        merged = coalesced(event for batch in self._mail for event in batch)
        lasting = sum(event.type not in COALESCED_TYPES for event in merged)
        self._overrun = lasting > self._backlog
        self._mail.clear()
        self._unread = lasting
        if not self._overrun:
            self._mail.append(merged)

    def _ring(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    async def batch(self, timeout_seconds: float | None = None) -> Batch:
        if self._single:
            rest = Batch(self._single)
            self._single.clear()
            return rest
        if not (self._mail or self._closed or self._overrun):
            await self._wait(timeout_seconds)
        if len(self._mail) > 1:
            self._tidy()
        if self._overrun:
            raise SlowSubscriber("This listener has left too many events unread.")
        if self._closed or not self._mail:
            return EMPTY
        self._unread = 0
        return self._mail.popleft()

    async def _wait(self, timeout_seconds: float | None) -> None:
        self._waiter = self._loop.create_future()
        limit = None
        if timeout_seconds is not None:
            limit = self._loop.call_later(timeout_seconds, self._ring)
        try:
            await self._waiter
        finally:
            self._waiter = None
            if limit is not None:
                limit.cancel()

    def close(self) -> None:
        self._closed = True
        self._ring()

    def __aiter__(self) -> "MemorySubscription":
        return self

    async def __anext__(self) -> Event:
        if self._closed:
            raise StopAsyncIteration
        if not self._single:
            self._single.extend(await self.batch())
        if not self._single:
            raise StopAsyncIteration
        return self._single.popleft()
