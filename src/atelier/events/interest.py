"""What is listened to in this process, and since when without a gap."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from atelier.events.event import Order

# What is listened to, (job, user): events of a job, else of a user, else all.
About = tuple[str | None, str | None]

LINGER_SECONDS = 120.0
MOST_LINGERING = 10_000


def topic_of(job: str | None, user: str | None) -> About:
    """A job's events are the same for whichever user they are asked for."""
    return (job, None) if job is not None else (None, user)


@dataclass(slots=True)
class _Held:
    since: Order
    holders: int = 0
    left_at: float = 0.0


class Interest:
    """Topics stay for ``linger_seconds`` after the last listener has left.

    Who was cut off comes back in that time, and can then go on from the last event.
    """

    def __init__(
        self,
        *,
        clock: Callable[[], float],
        linger_seconds: float = LINGER_SECONDS,
        most_lingering: int = MOST_LINGERING,
    ) -> None:
        self._clock = clock
        self._linger_seconds = linger_seconds
        self._most_lingering = most_lingering
        self.on_change: Callable[[], None] = lambda: None
        self._held: dict[About, _Held] = {}
        self._left: dict[About, None] = {}  # in the order of leaving

    @contextmanager
    def holding(self, topic: About, now: Order) -> Iterator[None]:
        held = self._held.get(topic)
        if held is None:
            held = self._held[topic] = _Held(since=now)
            self.on_change()
        held.holders += 1
        self._left.pop(topic, None)
        try:
            yield
        finally:
            held.holders -= 1
            if not held.holders:
                held.left_at = self._clock()
                self._left[topic] = None
                self._forget()

    def topics(self) -> frozenset[About]:
        self._forget()
        return frozenset(self._held)

    def since(self, topic: About) -> Order | None:
        """From when on everything about ``topic`` is known here; None: it isn't."""
        self._forget()
        held = self._held.get(topic)
        return None if held is None else held.since

    def begin_again(self, now: Order, topic: About | None = None) -> None:
        """Something may have been missed before ``now``, of ``topic`` or of all."""
        for held in self._held.values() if topic is None else filter(None, [self._held.get(topic)]):
            held.since = now

    def _forget(self) -> None:
        oldest = self._clock() - self._linger_seconds
        forgotten = False
        while self._left:
            topic = next(iter(self._left))
            if self._held[topic].left_at > oldest and len(self._left) <= self._most_lingering:
                break
            del self._left[topic], self._held[topic]
            forgotten = True
        if forgotten:
            self.on_change()
