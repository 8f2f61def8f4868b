"""The bus of several processes: each tells its own listeners, and the others through Redis.

Publishing puts the event into a bounded buffer and returns; a task sends it, and only where
Redis says that somebody listens. Listening is a channel for each job or user that is listened
to. Everything goes to this process's own bus first: without Redis that is what remains, and
what happens elsewhere comes from the record.
"""

import asyncio
import contextlib
import secrets
from collections import Counter, OrderedDict
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from types import TracebackType
from typing import Self

import structlog

from atelier.events.bus import WAKES, Wake, Watched
from atelier.events.event import Event, Order
from atelier.events.interest import About, Interest, topic_of
from atelier.events.memory import MemoryBus, MemoryWakeups
from atelier.events.redis.link import Link, connection_errors
from atelier.events.redis.outgoing import Outgoing
from atelier.events.redis.server import RedisUnreachable
from atelier.events.redis.wire import NODES, PREVIEWS, Channels, Received, decode
from atelier.events.subscription import MemorySubscription

log = structlog.get_logger(__name__)

FIRST_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS = 0.1, 2.0
# How long somebody who begins to listen waits for Redis to know; then the record must do.
CONFIRM_SECONDS = 1.0
ORIGINS = 1000  # processes whose numbers are remembered


class RedisBus:
    """``async with RedisBus(...)`` connects, and connects again whenever that is lost.

    ``here`` is this process's own bus, ``interest`` what it was made with; ``installation``
    tells apart who shares the Redis.
    """

    def __init__(self, url: str, here: MemoryBus, interest: Interest, *, installation: str) -> None:
        self._url = url
        self._here = here
        self._interest = interest
        self._channels = Channels(installation)
        self._origin = secrets.token_hex(8)
        self._heard: OrderedDict[str, int] = OrderedDict()
        self._outgoing = Outgoing()
        self._extras: Counter[str] = Counter()
        self._link: Link | None = None
        self._wakes = {self._channels.wake(what): what for what in WAKES}
        self._waiting: Counter[Wake] = Counter()
        self._topics: dict[str, About] = {}
        interest.on_change = self._channels_changed
        self._keeping: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        self._keeping = asyncio.create_task(self._keep_connected(), name="redis")
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._link is not None:
            await self._link.drain()
        if self._keeping is not None:
            self._keeping.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._keeping

    # -- the port ------------------------------------------------------------------------------

    @property
    def listeners(self) -> int:
        return self._here.listeners

    @property
    def may_be_heard(self) -> bool:
        return self.connected or self._here.may_be_heard

    @property
    def connected(self) -> bool:
        return self._link is not None

    @property
    def newest(self) -> Order:
        return self._here.newest

    def watched(self) -> Watched:
        return self._here.watched()

    def progress_of(self, job: str) -> Event | None:
        return self._here.progress_of(job)

    def last_of(self, job: str) -> Event | None:
        return self._here.last_of(job)

    def publish(self, event: Event) -> Event:
        if not self.connected:
            return self._here.publish(event)
        stamped = self._here.publish_here(event)
        self._outgoing.add(stamped)
        return stamped

    def publish_here(self, event: Event) -> Event:
        return self._here.publish_here(event)

    def wake(self, what: Wake = "claim") -> None:
        if not self.connected:
            self._here.wake(what)
            return
        self._here.wake_here(what)
        self._outgoing.wake(what)

    @asynccontextmanager
    async def wakeups(self, what: Wake = "claim") -> AsyncIterator[MemoryWakeups]:
        self._waiting[what] += 1
        self._channels_changed()
        try:
            async with self._here.wakeups(what) as wakeups:
                yield wakeups
        finally:
            self._waiting[what] -= 1
            self._channels_changed()

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
        topic = topic_of(job, user)
        wanted = [
            self._channels.of_topic(topic, kind)
            for kind, asked in ((PREVIEWS, previews), (NODES, nodes))
            if asked
        ]
        with self._interest.holding(topic, self._here.moment()), self._extra(wanted):
            if self._link is not None:
                confirming = [self._channels.of_topic(topic), *wanted]
                await self._link.confirmed(confirming, CONFIRM_SECONDS)
            async with self._here.subscribe(
                job=job, user=user, last_event_id=last_event_id, previews=previews, nodes=nodes
            ) as subscription:
                yield subscription

    @contextmanager
    def _extra(self, channels: list[str]) -> Iterator[None]:
        self._extras.update(channels)
        if channels:
            self._channels_changed()
        try:
            yield
        finally:
            self._extras.subtract(channels)
            self._extras = +self._extras
            if channels:
                self._channels_changed()

    # -- the other processes -------------------------------------------------------------------

    def _channels_changed(self) -> None:
        if self._link is not None:
            self._link.channels_changed()

    def _wanted(self) -> frozenset[str]:
        """The channels that this process has to hear. News always: one there must be."""
        waking = {self._channels.wake(what) for what, count in self._waiting.items() if count}
        self._topics = {self._channels.of_topic(topic): topic for topic in self._interest.topics()}
        always = {self._channels.wake("news")}
        return frozenset(always | waking | self._topics.keys() | self._extras.keys())

    def _take(self, channel: str, message: bytes) -> None:
        what = self._wakes.get(channel)
        if what is not None:
            if message.decode(errors="replace") != self._origin:
                self._here.wake_here(what)
            return
        received = decode(message)
        if received is not None and self._is_new(received):
            self._here.publish_here(received.event)

    def _is_new(self, received: Received) -> bool:
        """False for our own, and for what came on another channel already."""
        if received.origin == self._origin:
            return False
        if received.number <= self._heard.get(received.origin, 0):
            return False
        self._heard[received.origin] = received.number
        self._heard.move_to_end(received.origin)
        if len(self._heard) > ORIGINS:
            self._heard.popitem(last=False)
        return True

    async def _keep_connected(self) -> None:
        pause, said = FIRST_PAUSE_SECONDS, False
        foreseen: tuple[type[Exception], ...]
        foreseen = (*connection_errors(), RedisUnreachable, OSError, TimeoutError)
        while True:
            link = Link(
                self._url,
                channels=self._channels,
                origin=self._origin,
                outgoing=self._outgoing,
                wanted=self._wanted,
                take=self._take,
                known_from_now_on=self._known_from_now_on,
            )
            try:
                async with link.open():
                    log.info("Redis is connected")
                    pause, said = FIRST_PAUSE_SECONDS, False
                    self._begin(link)
                    await link.run()
            except foreseen as error:
                if not said:
                    log.warning("Redis is away; jobs go on without it", reason=str(error))
                    said = True
            except Exception:
                log.exception("the link to Redis failed in a way nobody foresaw")
            finally:
                self._end()
            await asyncio.sleep(pause)
            pause = min(2 * pause, LONGEST_PAUSE_SECONDS)

    def _begin(self, link: Link) -> None:
        self._outgoing.clear()
        self._link = link
        # What was told while this process wasn't connected: let everyone look.
        for what in WAKES:
            self._outgoing.wake(what)
        self._missed_some()

    def _end(self) -> None:
        if self._link is not None:
            self._link = None
            self._outgoing.clear()
            self._missed_some()

    def _missed_some(self) -> None:
        """Listeners may have missed something: the record tells, and nobody goes on from an id."""
        self._interest.begin_again(self._here.moment())
        for what in WAKES:
            self._here.wake_here(what)

    def _known_from_now_on(self, channel: str) -> None:
        """Redis has confirmed ``channel``: events before this may have been missed."""
        topic = self._topics.get(channel)
        if topic is not None:
            self._interest.begin_again(self._here.moment(), topic)
