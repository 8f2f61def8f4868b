"""What crosses the wire between processes: names of channels, and events as JSON."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import orjson

from atelier.events.bus import Wake
from atelier.events.event import EVENT_TYPES, OPTIONAL_TYPES, Event
from atelier.events.interest import About

# Events that every listener of a topic gets, and those that some ask for, each on its channel.
EVENTS, PREVIEWS, NODES = "events", "previews", "nodes"
_KIND_OF = {"preview": PREVIEWS, "executing": NODES, "executed": NODES}


@dataclass(frozen=True, slots=True)
class Received:
    """``origin`` is the process that told it, ``number`` rises with each event of an origin."""

    origin: str
    number: int
    event: Event


class Channels:
    """Their names. All begin with ``installation``: others may share the Redis, and publishing
    knows no database numbers.
    """

    def __init__(self, installation: str) -> None:
        self._prefix = f"atelier:{installation}:"

    def wake(self, what: Wake) -> str:
        return f"{self._prefix}wake:{what}"

    def of_topic(self, topic: About, kind: str = EVENTS) -> str:
        job, user = topic
        if job is not None:
            return f"{self._prefix}{kind}:job:{job}"
        return f"{self._prefix}{kind}:all" if user is None else f"{self._prefix}{kind}:user:{user}"

    def of_event(self, event: Event) -> tuple[str, ...]:
        """Where somebody may listen to ``event``."""
        kind = _KIND_OF[event.type] if event.type in OPTIONAL_TYPES else EVENTS
        topics: Iterable[About] = ((event.job, None), (None, event.user), (None, None))
        return tuple(self.of_topic(topic, kind) for topic in topics)


def encode(event: Event, origin: str, number: int) -> bytes | None:
    """None for what can't be written: some of it comes from a stranger's nodes."""
    told = {
        "origin": origin,
        "number": number,
        "type": event.type,
        "job": event.job,
        "user": event.user,
        "data": event.data,
        "at_ms": event.at_ms,
    }
    try:
        return orjson.dumps(told, default=str, option=orjson.OPT_NON_STR_KEYS)
    except orjson.JSONEncodeError:
        return None


def decode(message: bytes) -> Received | None:
    """None for what we don't know: a newer version may tell more than this one understands."""
    try:
        told: Any = orjson.loads(message)
        event = Event(
            told["type"], str(told["job"]), str(told["user"]), told["data"], at_ms=told["at_ms"]
        )
        received = Received(str(told["origin"]), int(told["number"]), event)
    except (orjson.JSONDecodeError, KeyError, TypeError, ValueError):
        return None
    usable = isinstance(event.data, dict) and isinstance(event.at_ms, int)
    return received if usable and event.type in EVENT_TYPES else None
