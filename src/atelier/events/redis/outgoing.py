"""What is still to be sent: bounded, and what matters least goes first."""

import asyncio
from collections import OrderedDict
from typing import Final

from atelier.events.bus import Wake
from atelier.events.event import COALESCED_TYPES, Event

MOST_EVENTS = 2000
MOST_PREVIEWS = 50  # some megabytes

# What is dropped first when there is too much; whoever listens reads the rest in the record.
_RANKS: Final = {"preview": 0, "executing": 1, "executed": 1, "position": 2, "progress": 2}
_LASTING: Final = 3

_Key = tuple[object, ...]


class Outgoing:
    """Events in order, of those that are coalesced the newest of each job, and wakes, each once."""

    def __init__(
        self, *, most_events: int = MOST_EVENTS, most_previews: int = MOST_PREVIEWS
    ) -> None:
        self._most_events = most_events
        self._most_previews = most_previews
        self._events: OrderedDict[_Key, Event] = OrderedDict()
        self._ranked: tuple[OrderedDict[_Key, None], ...] = tuple(
            OrderedDict() for _ in range(_LASTING + 1)
        )
        self._wakes: dict[Wake, None] = {}
        self._added = 0
        self._some = asyncio.Event()
        self._sent = 0
        self.lost = False  # something that lasts was dropped since the last ``take``

    def __len__(self) -> int:
        return len(self._events)

    def add(self, event: Event) -> None:
        self._added += 1
        coalesced = event.type in COALESCED_TYPES
        key: _Key = (event.type, event.job) if coalesced else (self._added,)
        rank = _RANKS.get(event.type, _LASTING)
        self._events.pop(key, None)
        self._ranked[rank].pop(key, None)
        self._events[key] = event
        self._ranked[rank][key] = None
        if len(self._ranked[0]) > self._most_previews:
            self._drop(0)
        if len(self._events) > self._most_events:
            self._drop(next(rank for rank, keys in enumerate(self._ranked) if keys))
        self._some.set()

    def _drop(self, rank: int) -> None:
        key, _ = self._ranked[rank].popitem(last=False)
        del self._events[key]
        if rank == _LASTING:
            self.lost = True

    def wake(self, what: Wake) -> None:
        self._wakes[what] = None
        self._some.set()

    async def wait(self) -> None:
        """Return once there is something to take."""
        await self._some.wait()

    def take(self, most: int) -> tuple[list[Wake], list[Event]]:
        """All wakes and the oldest ``most`` events. What was lost is news to those who listen."""
        if self.lost:
            self._wakes["news"] = None
            self.lost = False
        wakes = list(self._wakes)
        self._wakes.clear()
        events: list[Event] = []
        while self._events and len(events) < most:
            key, event = self._events.popitem(last=False)
            self._ranked[_RANKS.get(event.type, _LASTING)].pop(key)
            events.append(event)
        if not self._events:
            self._some.clear()
        return wakes, events

    def next_number(self) -> int:
        """Rises through all connections of this process: whoever hears two of one drops one."""
        self._sent += 1
        return self._sent

    def clear(self) -> None:
        self.take(len(self._events))
