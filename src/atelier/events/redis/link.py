"""One life of the connection to Redis, from the login to its first error."""

import asyncio
import functools
import math
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING, Any

from atelier.events.event import Event
from atelier.events.redis.outgoing import Outgoing
from atelier.events.redis.server import open_redis
from atelier.events.redis.wire import Channels, encode

if TYPE_CHECKING:
    from redis.asyncio import Redis

BATCH = 200  # events that are sent together
# Between two batches: what comes meanwhile is sent together, at most five hundred times a second.
PACE_SECONDS = 0.002
PING_SECONDS = 3.0
SILENCE_SECONDS = 8.0
DRAIN_SECONDS = 0.5
LOOK_SECONDS = 10.0  # for topics that nobody has come back to


@functools.cache
def connection_errors() -> tuple[type[Exception], ...]:
    from redis.exceptions import RedisError

    return (RedisError,)


class Link:
    """``async with link.open()``, then ``run`` until it breaks.

    ``wanted`` gives the channels to hear, ``take`` gets what comes, ``known_from_now_on`` each
    channel once Redis has confirmed it.
    """

    def __init__(
        self,
        url: str,
        *,
        channels: Channels,
        origin: str,
        outgoing: Outgoing,
        wanted: Callable[[], frozenset[str]],
        take: Callable[[str, bytes], None],
        known_from_now_on: Callable[[str], None],
    ) -> None:
        self._url = url
        self._channels = channels
        self._origin = origin
        self._outgoing = outgoing
        self._wanted = wanted
        self._take = take
        self._known_from_now_on = known_from_now_on
        self._sender: Redis
        self._ears: Any  # the connection that is subscribed
        self._asked: set[str] = set()
        self._unanswered: Counter[str] = Counter()
        self._confirmed: set[str] = set()
        self._confirming: dict[str, asyncio.Future[None]] = {}
        self._changed = asyncio.Event()
        self._sending = asyncio.Lock()
        self._heard_at = 0.0

    @asynccontextmanager
    async def open(self) -> AsyncIterator[None]:
        """Connected twice, to send and to hear, with all channels asked for and confirmed.

        Raises redis.exceptions.RedisError, OSError, RedisUnreachable.
        """
        async with (
            open_redis(self._url) as self._sender,
            # Without a time-out: half a message must not be given up. Pings notice silence.
            open_redis(self._url, timeout_seconds=math.inf) as receiver,
        ):
            await self._sender.ping()
            pool: Any = receiver.connection_pool
            self._ears = await pool.get_connection()
            try:
                await self._ask()
                async with asyncio.timeout(SILENCE_SECONDS):
                    while self._asked - self._confirmed:
                        self._hear(await self._ears.read_response())
                yield
            finally:
                for future in self._confirming.values():
                    future.cancel()
                self._confirming.clear()
                with suppress(*connection_errors(), OSError):
                    await self._ears.disconnect(nowait=True)
                await pool.release(self._ears)

    async def run(self) -> None:
        """Send and hear until it breaks; then raises what broke it."""
        works = (self._send_all(), self._hear_all(), self._keep_asking(), self._ping())
        tasks = [asyncio.create_task(work) for work in works]
        try:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    # -- hearing -------------------------------------------------------------------------------

    def channels_changed(self) -> None:
        self._changed.set()

    async def confirmed(self, channels: Sequence[str], within_seconds: float) -> None:
        """Return once Redis tells us of ``channels``, or after that time."""
        waiting = [channel for channel in channels if channel not in self._confirmed]
        if not waiting:
            return
        self._changed.set()
        loop = asyncio.get_running_loop()
        futures = [self._confirming.setdefault(name, loop.create_future()) for name in waiting]
        await asyncio.wait(futures, timeout=within_seconds)

    async def _keep_asking(self) -> None:
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(LOOK_SECONDS):
                    await self._changed.wait()
            self._changed.clear()
            await self._ask()

    async def _ask(self) -> None:
        wanted = self._wanted()
        new, gone = sorted(wanted - self._asked), sorted(self._asked - wanted)
        if gone:
            self._asked.difference_update(gone)
            self._confirmed.difference_update(gone)
            for channel in gone:
                if (waiting := self._confirming.pop(channel, None)) is not None:
                    waiting.cancel()
            await self._ears.send_command("UNSUBSCRIBE", *gone)
        if new:
            self._asked.update(new)
            self._unanswered.update(new)
            await self._ears.send_command("SUBSCRIBE", *new)

    async def _hear_all(self) -> None:
        while True:
            self._hear(await self._ears.read_response())

    def _hear(self, answer: Any) -> None:
        self._heard_at = asyncio.get_running_loop().time()
        if isinstance(answer, Exception):
            raise answer
        match answer:
            case [b"message", bytes() as channel, bytes() as message]:
                self._take(channel.decode(errors="replace"), message)
            case [b"subscribe", bytes() as channel, _]:
                self._confirm(channel.decode(errors="replace"))

    def _confirm(self, channel: str) -> None:
        self._unanswered[channel] -= 1
        # It may have been given up and asked for again: then another answer comes.
        if self._unanswered[channel] > 0 or channel not in self._asked:
            return
        del self._unanswered[channel]
        self._confirmed.add(channel)
        self._known_from_now_on(channel)
        future = self._confirming.pop(channel, None)
        if future is not None and not future.done():
            future.set_result(None)

    async def _ping(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(PING_SECONDS)
            if loop.time() - self._heard_at > SILENCE_SECONDS:
                raise TimeoutError(f"no word for {SILENCE_SECONDS:.0f} s")
            async with asyncio.timeout(SILENCE_SECONDS):
                await self._ears.send_command("PING")

    # -- telling -------------------------------------------------------------------------------

    async def drain(self) -> None:
        """Send what is left, if that goes quickly: the last words of a process that stops."""
        with suppress(*connection_errors(), OSError, TimeoutError):
            async with asyncio.timeout(DRAIN_SECONDS):
                while await self._send_some():
                    pass

    async def _send_all(self) -> None:
        while True:
            await self._outgoing.wait()
            await self._send_some()
            await asyncio.sleep(PACE_SECONDS)

    async def _send_some(self) -> bool:
        """Send the next batch; whether there was one."""
        async with self._sending:
            wakes, events = self._outgoing.take(BATCH)
            if not (wakes or events):
                return False
            heard = await self._ask_who_hears(wakes, events)
            messages: list[tuple[str, bytes]] = []
            for event in events:
                channels = [name for name in self._channels.of_event(event) if name in heard]
                if channels:
                    body = encode(event, self._origin, self._outgoing.next_number())
                    if body is not None:
                        messages += [(channel, body) for channel in channels]
            if messages:
                async with self._sender.pipeline(transaction=False) as pipe:
                    for channel, body in messages:
                        pipe.publish(channel, body)
                    await pipe.execute()
            return True

    async def _ask_who_hears(self, wakes: Sequence[Any], events: Sequence[Event]) -> set[str]:
        """Wake the others, and return those channels of ``events`` that somebody hears.

        Previews are large and progress is much: what nobody hears isn't sent, nor encoded.
        """
        names = dict.fromkeys(name for event in events for name in self._channels.of_event(event))
        async with self._sender.pipeline(transaction=False) as pipe:
            for what in wakes:
                pipe.publish(self._channels.wake(what), self._origin)
            if names:
                pipe.pubsub_numsub(*names)
            answers = await pipe.execute()
        if not names:
            return set()
        return {name.decode() for name, count in answers[-1] if count}
