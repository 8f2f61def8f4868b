"""The bus of one process: dictionaries, a short memory for resuming, no threads.

All methods belong to the event loop's thread.
"""

import asyncio
import secrets
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import AbstractContextManager, asynccontextmanager, contextmanager, nullcontext
from typing import Final

from atelier.events.bus import WAKES, Wake, Watched
from atelier.events.event import (
    COALESCED_TYPES,
    OPTIONAL_TYPES,
    Event,
    EventType,
    Order,
    parse_id,
    tag_of,
)
from atelier.events.interest import About, Interest, topic_of
from atelier.events.recent import Recent
from atelier.events.subscription import MemorySubscription
from atelier.events.topic import Topic


def _clock_ms() -> int:
    return time.time_ns() // 1_000_000


# What a topic is about: (job, user, optional types); None: of any.
_Key = tuple[str | None, str | None, frozenset[EventType]]

_NODES: Final[frozenset[EventType]] = frozenset({"executing", "executed"})
_PREVIEWS: Final[frozenset[EventType]] = frozenset({"preview"})
_CHOICES: Final = (frozenset[EventType](), _NODES, _PREVIEWS, _NODES | _PREVIEWS)
_CHOOSING: Final[Mapping[EventType, tuple[frozenset[EventType], ...]]] = {
    kind: tuple(choice for choice in _CHOICES if kind in choice) for kind in OPTIONAL_TYPES
}


class MemoryBus:
    """Bus within a process.

    ``backlog`` is how many events a listener may leave unread; a job's events can be resumed
    until ``keep_seconds`` after it ended, or until ``keep_jobs`` newer jobs have come.
    ``interest``: only of what it holds is everything told here; None: of all jobs.
    """

    def __init__(
        self,
        *,
        clock_ms: Callable[[], int] = _clock_ms,
        backlog: int = 1000,
        keep_seconds: float = 600.0,
        keep_jobs: int = 5000,
        # A thousand listeners of the same hear it once a second: less than a tenth of a core.
        seconds_per_listener: float = 0.001,
        interest: Interest | None = None,
    ) -> None:
        self._clock_ms = clock_ms
        self._backlog = backlog
        self._seconds_per_listener = seconds_per_listener
        self._last: Order = (clock_ms(), 0)
        self._recent = Recent(keep_ms=int(keep_seconds * 1000), keep_jobs=keep_jobs, now=self._last)
        self._topics: dict[_Key, Topic] = {}
        self._listeners = 0
        self._wakeups: dict[Wake, set[MemoryWakeups]] = {what: set() for what in WAKES}
        self._interest = interest
        self._tag = secrets.token_hex(4)
        self._carriers: list[Callable[[Wake], None]] = []

    @property
    def listeners(self) -> int:
        return self._listeners

    @property
    def may_be_heard(self) -> bool:
        return self._listeners > 0

    @property
    def connected(self) -> bool:
        return False

    @property
    def newest(self) -> Order:
        return self._last

    def watched(self) -> Watched:
        if self._interest is not None:
            topics = self._interest.topics()
        else:
            topics = frozenset(topic_of(job, user) for job, user, _ in self._topics)
        return Watched(
            jobs=frozenset(job for job, _ in topics if job is not None),
            users=frozenset(user for _, user in topics if user is not None),
        )

    def progress_of(self, job: str) -> Event | None:
        return self._recent.progress(job)

    def last_of(self, job: str) -> Event | None:
        return self._recent.last(job)

    def carry(self, send: Callable[[Wake], None]) -> None:
        """Let ``send`` carry wakes to other processes; it must return at once."""
        self._carriers.append(send)

    def publish(self, event: Event) -> Event:
        if event.type not in COALESCED_TYPES and event.type not in OPTIONAL_TYPES:
            for send in self._carriers:
                send("news")
        return self.publish_here(event)

    def moment(self) -> Order:
        """Later than everything that was told here, and earlier than all that will be."""
        now_ms = self._clock_ms()
        milliseconds, sequence = self._last
        # Ids rise even when the clock is set back.
        self._last = (now_ms, 0) if now_ms > milliseconds else (milliseconds, sequence + 1)
        return self._last

    def publish_here(self, event: Event) -> Event:
        self.moment()
        event = event.stamped(self._id(), self._clock_ms())
        self._recent.add(event)
        if self._topics:
            for topic in self._topics_of(event):
                topic.publish(event)
        return event

    def _id(self) -> str:
        return f"{self._last[0]}-{self._last[1]}-{self._tag}"

    def _known_since(self, id: str | None, job: str | None, user: str | None) -> Order | None:
        """``id`` as an order, if all that came after it about this has been told here."""
        order = parse_id(id)
        # Another process has its own order, and has told other things.
        if order is None or tag_of(id) != self._tag:
            return None
        if self._interest is None:
            return order
        since = self._interest.since(topic_of(job, user))
        return None if since is None or order < since else order

    def _topics_of(self, event: Event) -> list[Topic]:
        keys = (
            (job, user, wanted)
            for wanted in _CHOOSING.get(event.type, _CHOICES)
            for job in (event.job, None)
            for user in (event.user, None)
        )
        return [self._topics[key] for key in keys if key in self._topics]

    @asynccontextmanager
    async def subscribe(
        self,
        *,
        job: str | None = None,
        user: str | None = None,
        last_event_id: str | None = None,
        previews: bool = False,
        nodes: bool = False,
    ) -> AsyncIterator[MemorySubscription]:
        last = self._known_since(last_event_id, job, user)
        with self._holding(topic_of(job, user)):
            subscription = MemorySubscription(
                since=self._id(),
                now_ms=self._clock_ms(),
                missed=self._recent.since(last, job=job, user=user),
                backlog=self._backlog,
            )
            with self._listening(subscription, (job, user, _CHOICES[nodes + 2 * previews])):
                yield subscription

    def _holding(self, topic: About) -> AbstractContextManager[None]:
        if self._interest is None:
            return nullcontext()
        return self._interest.holding(topic, self.moment())

    @contextmanager
    def _listening(self, subscription: MemorySubscription, key: _Key) -> Iterator[None]:
        topic = self._topics.get(key)
        if topic is None:
            topic = self._topics[key] = Topic(
                of_job=key[0] is not None, seconds_per_listener=self._seconds_per_listener
            )
        topic.listeners[subscription] = None
        self._listeners += 1
        try:
            yield
        finally:
            subscription.close()
            self._listeners -= 1
            del topic.listeners[subscription]
            if not topic.listeners:
                topic.close()
                if self._topics.get(key) is topic:
                    del self._topics[key]

    def wake(self, what: Wake = "claim") -> None:
        self.wake_here(what)
        for send in self._carriers:
            send(what)

    def wake_here(self, what: Wake) -> None:
        for wakeups in self._wakeups[what]:
            wakeups.wake()

    @asynccontextmanager
    async def wakeups(self, what: Wake = "claim") -> AsyncIterator["MemoryWakeups"]:
        wakeups = MemoryWakeups()
        self._wakeups[what].add(wakeups)
        try:
            yield wakeups
        finally:
            self._wakeups[what].discard(wakeups)


class MemoryWakeups:
    def __init__(self) -> None:
        self._woken = asyncio.Event()

    def wake(self) -> None:
        self._woken.set()

    async def wait(self, timeout_seconds: float) -> bool:
        try:
            async with asyncio.timeout(timeout_seconds):
                await self._woken.wait()
        except TimeoutError:
            return False
        self._woken.clear()
        return True
