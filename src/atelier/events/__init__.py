"""What happens to jobs, told to whoever listens. Nothing here is a record: that is SQL."""

from atelier.events.batch import Batch
from atelier.events.bus import Bus, SlowSubscriber, Subscription, Wakeups
from atelier.events.event import (
    COALESCED_TYPES,
    EVENT_TYPES,
    TERMINAL_TYPES,
    Event,
    EventType,
    cancelled,
    failed,
    finished,
    position,
    preview,
    progress,
    queued,
    retrying,
    snapshot,
    started,
)

__all__ = [
    "COALESCED_TYPES",
    "EVENT_TYPES",
    "TERMINAL_TYPES",
    "Batch",
    "Bus",
    "Event",
    "EventType",
    "SlowSubscriber",
    "Subscription",
    "Wakeups",
    "cancelled",
    "failed",
    "finished",
    "position",
    "preview",
    "progress",
    "queued",
    "retrying",
    "snapshot",
    "started",
]
