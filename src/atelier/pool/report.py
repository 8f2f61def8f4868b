"""What the worker that serves an instance tells the others of it. Pure."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any

from atelier.pool.breaker import Circuit

_PRIVATE = ("argv",)  # paths, and whatever else stands on somebody's command line


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """As the roster keeps it. Times are in ms; ``busy_until_ms`` since the epoch."""

    up: bool = False
    last_error: str | None = None
    system: Mapping[str, Any] = field(default_factory=dict)  # ComfyUI's /system_stats
    latency_ms: float | None = None
    queue_remaining: int | None = None
    foreign: int = 0
    running: tuple[str, ...] = ()  # jobs of ours that are there
    claimed: int = 0
    busy_until_ms: int | None = None
    warm: tuple[str, ...] = ()
    switch_ms: Mapping[str, float] = field(default_factory=dict)
    speeds: Mapping[str, float] = field(default_factory=dict)
    circuit: Circuit = "closed"
    served: int = 0
    connections: int = 0
    messages: int = 0

    def as_json(self) -> dict[str, Any]:
        told = asdict(self)
        system = told["system"].get("system")
        if isinstance(system, Mapping):
            shown = {key: value for key, value in system.items() if key not in _PRIVATE}
            told["system"] = {**told["system"], "system": shown}
        return told

    @classmethod
    def of(cls, body: Mapping[str, Any] | None) -> "Report":
        """From ``as_json``, maybe of another version: what is unknown is left out."""
        known = {one.name for one in fields(cls)}
        told = {key: value for key, value in (body or {}).items() if key in known}
        for name in ("running", "warm"):
            if name in told:
                told[name] = tuple(told[name])
        return cls(**told)
