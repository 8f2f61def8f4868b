"""The bus of one process: dictionaries, a short memory for resuming, no threads.

All methods belong to the event loop's thread.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Final

from atelier.events.bus import Watched
from atelier.events.event import OPTIONAL_TYPES, Event, EventType, Order, parse_id
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
    ) -> None:
        self._clock_ms = clock_ms
        self._backlog = backlog
        self._seconds_per_listener = seconds_per_listener
        self._last: Order = (clock_ms(), 0)
        self._recent = Recent(keep_ms=int(keep_seconds * 1000), keep_jobs=keep_jobs, now=self._last)
        self._topics: dict[_Key, Topic] = {}
        self._listeners = 0
        self._wakeups: set[MemoryWakeups] = set()

    @property
    def listeners(self) -> int:
        return self._listeners

    def watched(self) -> Watched:
        return Watched(
            jobs=frozenset(job for job, _, _ in self._topics if job is not None),
            users=frozenset(
                user for job, user, _ in self._topics if job is None and user is not None
            ),
        )

    def progress_of(self, job: str) -> Event | None:
        return self._recent.progress(job)

    def publish(self, event: Event) -> Event:
        now_ms = self._clock_ms()
        milliseconds, sequence = self._last
        # Ids rise even when the clock is set back.
        self._last = (now_ms, 0) if now_ms > milliseconds else (milliseconds, sequence + 1)
        event = event.stamped(f"{self._last[0]}-{self._last[1]}", now_ms)
        self._recent.add(event)
        if self._topics:
            for topic in self._topics_of(event):
                topic.publish(event)
        return event

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
        subscription = MemorySubscription(
            since=f"{self._last[0]}-{self._last[1]}",
            now_ms=self._clock_ms(),
            missed=self._recent.since(parse_id(last_event_id), job=job, user=user),
            backlog=self._backlog,
        )
        key = (job, user, _CHOICES[nodes + 2 * previews])
        topic = self._topics.get(key)
        if topic is None:
            topic = self._topics[key] = Topic(
                of_job=job is not None, seconds_per_listener=self._seconds_per_listener
            )
        topic.listeners[subscription] = None
        self._listeners += 1
        try:
            yield subscription
        finally:
            subscription.close()
            self._listeners -= 1
            del topic.listeners[subscription]
            if not topic.listeners:
                topic.close()
                if self._topics.get(key) is topic:
                    del self._topics[key]

    def wake(self) -> None:
        for wakeups in self._wakeups:
            wakeups.wake()

    @asynccontextmanager
    async def wakeups(self) -> AsyncIterator["MemoryWakeups"]:
        wakeups = MemoryWakeups()
        self._wakeups.add(wakeups)
        try:
            yield wakeups
        finally:
            self._wakeups.discard(wakeups)


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
