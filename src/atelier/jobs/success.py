"""What a job has made."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Success:
    """What job ``id`` has made under ``lease``.

    ``inputs`` and ``variant`` are those that were used; left out, they stay as they were when the
    job was queued. Under ``cache_key`` later jobs find the outputs; ``cached_from`` is the job
    that made them, where it was another.
    """

    id: str
    lease: int
    outputs: Sequence[Mapping[str, Any]]
    timings: Mapping[str, int] | None = None
    inputs: Mapping[str, Any] | None = None
    variant: str | None = None
    previews: Sequence[Mapping[str, Any]] = ()
    cache_key: str | None = None
    cached_from: str | None = None

    def details(self) -> dict[str, Any]:
        """The columns of ``job_details`` that it is kept in."""
        details: dict[str, Any] = {
            "outputs": self.outputs,
            "timings": self.timings,
            "error": None,
            "previews": self.previews or None,
            "cache_key": self.cache_key,
            "cached_from": self.cached_from,
        }
        return details if self.inputs is None else {**details, "inputs": self.inputs}
