"""The ports: who tells, who listens, and who waits to be woken."""

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Literal, Protocol, get_args

from atelier.errors import Unavailable
from atelier.events.batch import Batch
from atelier.events.event import Event, Order

# claim: there may be something to claim. cancel: a running job is to be cancelled. news: something
# may have happened that listeners here haven't been told. Each means: look at the record.
Wake = Literal["claim", "cancel", "news"]
WAKES: tuple[Wake, ...] = get_args(Wake)


class SlowSubscriber(Unavailable):
    """A listener fell so far behind that events would have to be lost; it is let go instead."""

    code = "SLOW_SUBSCRIBER"
    default_hint = "Connect again with the last event id that you saw: nothing is skipped."


class Subscription(Protocol):
    """Events for one listener, in order. Ends (StopAsyncIteration, or ``closed``) after close.

    Raises SlowSubscriber to a listener that has left more than a bounded number unread;
    progress, position and preview don't count, only the newest of each per job is kept.
    """

    @property
    def resumed(self) -> bool:
        """Whether everything since ``last_event_id`` is known; else begin with a snapshot."""
        ...

    @property
    def since(self) -> str:
        """Id of the newest event at the time of subscribing: what a snapshot is stamped with."""
        ...

    @property
    def pending(self) -> int:
        """How many events wait to be read."""
        ...

    @property
    def closed(self) -> bool: ...

    def begin_with(self, *events: Event) -> None:
        """Put snapshots before everything else; those without an id get ``since``."""
        ...

    async def batch(self, timeout_seconds: float | None = None) -> Batch:
        """What has come, at least one event; empty after the time-out or when closed.

        The more listen to the same, the further apart the batches are and the more each holds,
        so that telling them costs the process a bounded share of its time.
        """
        ...

    def close(self) -> None: ...

    def __aiter__(self) -> AsyncIterator[Event]: ...

    async def __anext__(self) -> Event: ...


class Wakeups(Protocol):
    """A waiter's own memory of being woken: a wake between two waits isn't lost.

    A wake may get lost on its way from another process: who waits looks now and then anyway.
    """

    async def wait(self, timeout_seconds: float) -> bool:
        """True as soon as somebody has called ``wake`` since the last wait; False after time."""
        ...

    def wake(self) -> None:
        """End the wait of this waiter alone."""
        ...


@dataclass(frozen=True, slots=True)
class Watched:
    """What listeners have asked for by name, or did until a moment ago."""

    jobs: frozenset[str]
    users: frozenset[str]


class Bus(Protocol):
    """Events between the parts of one process, or of several. Nothing here waits or raises."""

    @property
    def listeners(self) -> int:
        """How many listen in this process now: with none, nobody needs to look for news."""
        ...

    @property
    def may_be_heard(self) -> bool:
        """Whether somebody, here or elsewhere, may hear what is published."""
        ...

    @property
    def connected(self) -> bool:
        """Whether what other processes publish arrives here."""
        ...

    @property
    def newest(self) -> Order:
        """That of the newest event that was told here."""
        ...

    def watched(self) -> Watched:
        """The jobs and users that somebody in this process listens to.

        Those who left a moment ago may come back with their last id, so they count too.
        """
        ...

    def progress_of(self, job: str) -> Event | None:
        """The newest ``progress`` that was told here of a job that runs: the record lags behind."""
        ...

    def last_of(self, job: str) -> Event | None:
        """The newest event that was told here of ``job``, not counting progress and places."""
        ...

    def publish(self, event: Event) -> Event:
        """Stamp and tell; returns the stamped event at once, whoever listens."""
        ...

    def publish_here(self, event: Event) -> Event:
        """The same, but to this process alone: others find it out for themselves."""
        ...

    def subscribe(
        self,
        *,
        job: str | None = None,
        user: str | None = None,
        last_event_id: str | None = None,
        previews: bool = False,
        nodes: bool = False,
    ) -> AbstractAsyncContextManager[Subscription]:
        """Events of a job, of a user, of that user's job when both are named, or all.

        Pictures of the work so far only with ``previews``, what each node does with ``nodes``.
        Listening begins when the context is entered, so state read after that can't miss any.
        Only an id from this process, of what has been listened to here ever since, can be gone
        on from.
        """
        ...

    def wake(self, what: Wake = "claim") -> None:
        """Let all look who wait for ``what``, in this process and others."""
        ...

    def wakeups(self, what: Wake = "claim") -> AbstractAsyncContextManager[Wakeups]: ...
