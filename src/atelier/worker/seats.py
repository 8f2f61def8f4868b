"""How many jobs one instance is given at once."""

import asyncio
import heapq
from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

AT_INSTANCE = 2  # one runs, the next is already there when it ends
AHEAD = 1  # one more has its pictures fetched meanwhile
# Where a run takes less time than the way of the next to the instance, two would leave it idle.
AT_QUICK_INSTANCE, AHEAD_OF_QUICK_INSTANCE = 4, 2
QUICK_SECONDS = 0.05
_WEIGHT = 0.2  # of the newest in the moving average


class Seats:
    """``claimed`` bounds the jobs that are under way to one instance, ``there`` those at it."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self.claimed = Places(AT_INSTANCE + AHEAD)
        self.there = Places(AT_INSTANCE)
        self._clock = clock
        self._left_at = clock()
        self._mean_seconds = 1.0

    def leave(self) -> None:
        """Give back a place of ``claimed``: the instance is done with a job."""
        now = self._clock()
        # Longer pauses count as one second, so that a burst after them is soon noticed.
        seconds = min(now - self._left_at, 1.0)
        self._left_at = now
        self._mean_seconds += _WEIGHT * (seconds - self._mean_seconds)
        is_quick = self._mean_seconds < QUICK_SECONDS
        at_once = AT_QUICK_INSTANCE if is_quick else AT_INSTANCE
        self.there.resize(at_once)
        self.claimed.resize(at_once + (AHEAD_OF_QUICK_INSTANCE if is_quick else AHEAD))
        self.claimed.release()


class Places:
    """A semaphore whose size can change; those who are in stay when it shrinks."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._taken = 0
        self._waiting: deque[asyncio.Future[None]] = deque()

    @property
    def taken(self) -> int:
        return self._taken

    def locked(self) -> bool:
        return self._taken >= self._size

    async def acquire(self) -> None:
        if not self.locked():
            self._taken += 1
            return
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append(turn)
        try:
            await turn
        except asyncio.CancelledError:
            if not turn.cancelled():  # the place was given at the same moment
                self.release()
            raise

    def release(self) -> None:
        self._taken -= 1
        self._admit()

    def resize(self, size: int) -> None:
        self._size = size
        self._admit()

    async def __aenter__(self) -> None:
        await self.acquire()

    async def __aexit__(self, *_: object) -> None:
        self.release()

    def _admit(self) -> None:
        while self._waiting and not self.locked():
            turn = self._waiting.popleft()
            if not turn.done():
                self._taken += 1
                turn.set_result(None)


class Turns:
    """Lets one in at a time, of those who wait the one with the least to do.

    Otherwise an instance that has work would take the next job ahead while another stands idle.
    """

    def __init__(self) -> None:
        self._taken = False
        self._waiting: list[tuple[int, int, asyncio.Future[None]]] = []
        self._came = 0

    @asynccontextmanager
    async def take(self, load: int) -> AsyncIterator[None]:
        loop = asyncio.get_running_loop()
        turn: asyncio.Future[None] = loop.create_future()
        self._came += 1
        heapq.heappush(self._waiting, (load, self._came, turn))
        # Not at once: all who were woken together shall have come before one is chosen.
        loop.call_soon(self._admit)
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():
                self._leave()
            raise
        try:
            yield
        finally:
            self._leave()

    def _leave(self) -> None:
        self._taken = False
        asyncio.get_running_loop().call_soon(self._admit)

    def _admit(self) -> None:
        while self._waiting and not self._taken:
            _, _, turn = heapq.heappop(self._waiting)
            if not turn.done():
                self._taken = True
                turn.set_result(None)
