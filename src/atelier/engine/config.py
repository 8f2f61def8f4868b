"""What an engine is told at its start."""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class EngineConfig:
    """``root`` holds input/, output/ and temp/, which are made when missing.

    ``port`` 0 takes a free one. ``linger_seconds``: end when no WebSocket client has been there
    and nothing has run for so long (None: never). ``announce``: a file to hold
    ``{"url", "pid"}`` as JSON from when the engine listens to when it ends.
    """

    root: Path
    host: str = "127.0.0.1"
    port: int = 8188
    max_history: int = 10_000
    cache_bytes: int = 128 * 1024 * 1024
    linger_seconds: float | None = None
    announce: Path | None = None
