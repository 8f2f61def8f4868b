"""What one job or one user's listeners hear: collected, and handed out in waves.

To tell a thousand listeners each event as it comes would take all of a process's time. So the
more listen, the further apart the waves are and the more each holds; a wave is one object for
all of them, and reaches them in small groups, so that jobs never wait for a whole wave.
"""

import asyncio
from collections import deque

from atelier.events.batch import Batch, coalesced
from atelier.events.event import Event
from atelier.events.subscription import MemorySubscription

GROUP = 25  # listeners woken in one turn of the event loop: about 2 ms


class Topic:
    """``seconds_per_listener`` is how far apart the waves are, for each who listens."""

    def __init__(self, *, of_job: bool, seconds_per_listener: float) -> None:
        self.listeners: dict[MemorySubscription, None] = {}
        self._of_job = of_job
        self._seconds_per_listener = seconds_per_listener
        self._loop = asyncio.get_running_loop()
        self._collected: list[Event] = []
        self._next_at = 0.0
        self._flush: asyncio.TimerHandle | None = None
        self._waves: deque[tuple[Batch, deque[MemorySubscription]]] = deque()
        self._step: asyncio.Handle | None = None
        self._hurry = False

    def publish(self, event: Event) -> None:
        self._collected.append(event)
        if self._of_job and event.ends:
            # The end of the one job that they watch isn't kept back.
            self._hurry = True
            self._start_wave()
        elif self._flush is None:
            now = self._loop.time()
            if now >= self._next_at:
                self._start_wave()
            else:
                self._flush = self._loop.call_at(self._next_at, self._start_wave)

    def close(self) -> None:
        for handle in (self._flush, self._step):
            if handle is not None:
                handle.cancel()

    def _interval(self) -> float:
        return len(self.listeners) * self._seconds_per_listener

    def _start_wave(self) -> None:
        if self._flush is not None:
            self._flush.cancel()
            self._flush = None
        self._next_at = self._loop.time() + self._interval()
        wave = coalesced(self._collected)
        self._collected.clear()
        self._waves.append((wave, deque(self.listeners)))
        if self._step is None:
            self._hand_out()
        elif self._hurry:
            self._step.cancel()
            self._hand_out()

    def _hand_out(self) -> None:
        """Wake the next group; the groups of a wave are spread over the time until the next."""
        self._step = None
        wave, waiting = self._waves[0]
        for _ in range(min(GROUP, len(waiting))):
            waiting.popleft().deliver(wave)
        if not waiting:
            self._waves.popleft()
        if not self._waves:
            self._hurry = False
        elif self._hurry or len(self._waves) > 1:
            self._step = self._loop.call_soon(self._hand_out)
        else:
            self._step = self._loop.call_later(
                GROUP * self._seconds_per_listener / 2, self._hand_out
            )
