"""Events that are told together, encoded together."""

from collections.abc import Callable, Iterable
from functools import cached_property
from typing import Self

from atelier.events.event import COALESCED_TYPES, Event, Order


class Batch(tuple[Event, ...]):
    """Events in order. The same object goes to all who listen to the same."""

    @cached_property
    def ends(self) -> bool:
        """Whether one of them is the last of its job."""
        return any(event.ends for event in self)

    @cached_property
    def first(self) -> Order:
        return self[0].order

    @cached_property
    def _wire(self) -> dict[str, bytes]:
        return {}

    def encoded(self, form: str, encode: Callable[[Event], bytes]) -> bytes:
        """All of them through ``encode``, joined; computed once per ``form``."""
        wire = self._wire.get(form)
        if wire is None:
            wire = b"".join([event.encoded(form, encode) for event in self])
            self._wire[form] = wire
        return wire

    def after(self, order: Order) -> Self:
        """Those that came later than ``order``."""
        if not self or self.first > order:
            return self
        return type(self)(event for event in self if event.order > order)


EMPTY = Batch()


def coalesced(events: Iterable[Event]) -> Batch:
    """``events`` with only the newest progress, position and preview of each job."""
    newest: dict[object, Event] = {}
    for event in events:
        # Snapshots of several jobs share the id of their moment.
        key: object = (event.id, event.job)
        if event.type in COALESCED_TYPES:
            key = (event.type, event.job)
            # Taken out first, so that it stands where the newest came.
            newest.pop(key, None)
        newest[key] = event
    return Batch(newest.values())
