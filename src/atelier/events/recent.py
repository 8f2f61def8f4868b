"""The events of the last minutes, kept so that a listener who was cut off can go on."""

from collections import OrderedDict

from atelier.events.event import COALESCED_TYPES, OPTIONAL_TYPES, TERMINAL_TYPES, Event, Order

_EVENTS_PER_JOB = 100


class _Trail:
    """Events of one job, oldest first; of progress and position only the newest."""

    __slots__ = ("ended_ms", "events", "lost", "user")

    def __init__(self, user: str) -> None:
        self.user = user
        self.events: dict[str, Event] = {}
        self.lost: Order = (0, 0)
        self.ended_ms: int | None = None

    def add(self, event: Event) -> None:
        key = event.type if event.type in COALESCED_TYPES else event.id
        self.events.pop(key, None)
        self.events[key] = event
        if len(self.events) > _EVENTS_PER_JOB:
            oldest = self.events.pop(next(iter(self.events)))
            self.lost = oldest.order
        self.ended_ms = event.at_ms if event.type in TERMINAL_TYPES else None

    @property
    def last(self) -> Event | None:
        newest = reversed(self.events.values())
        return next((event for event in newest if event.type not in COALESCED_TYPES), None)


class Recent:
    """Answers what came after an id, or that it no longer knows.

    ``now`` is the first id of this bus: what an earlier process told is not known here.
    """

    def __init__(self, *, keep_ms: int, keep_jobs: int, now: Order) -> None:
        self._keep_ms = keep_ms
        self._keep_jobs = keep_jobs
        self._forgotten = now
        self._trails: OrderedDict[str, _Trail] = OrderedDict()

    def __len__(self) -> int:
        return len(self._trails)

    def add(self, event: Event) -> None:
        if event.type not in OPTIONAL_TYPES:
            trail = self._trails.get(event.job)
            if trail is None:
                trail = self._trails[event.job] = _Trail(event.user)
            trail.add(event)
            # Most recently touched last, so that the first are the ones to forget.
            self._trails.move_to_end(event.job)
        self._forget(event.at_ms)

    def _forget(self, now_ms: int) -> None:
        while self._trails:
            job, trail = next(iter(self._trails.items()))
            expired = trail.ended_ms is not None and trail.ended_ms + self._keep_ms <= now_ms
            if not expired and len(self._trails) <= self._keep_jobs:
                return
            del self._trails[job]
            self._forgotten = max(self._forgotten, max(e.order for e in trail.events.values()))

    def progress(self, job: str) -> Event | None:
        """The newest progress of ``job``, unless it has ended since."""
        trail = self._trails.get(job)
        return None if trail is None or trail.ended_ms is not None else trail.events.get("progress")

    def last(self, job: str) -> Event | None:
        """The newest event of ``job`` but progress and position."""
        trail = self._trails.get(job)
        return None if trail is None else trail.last

    def since(
        self, last: Order | None, *, job: str | None, user: str | None
    ) -> tuple[Event, ...] | None:
        """Events after ``last`` in order; None when some of them may no longer be known."""
        if last is None or last < self._forgotten:
            return None
        if job is not None:
            trail = self._trails.get(job)
            trails = [trail] if trail is not None and user in (None, trail.user) else []
        else:
            trails = [t for t in self._trails.values() if user in (None, t.user)]
        if any(last < trail.lost for trail in trails):
            return None
        missed = [e for trail in trails for e in trail.events.values() if e.order > last]
        missed.sort(key=lambda event: event.order)
        return tuple(missed)
