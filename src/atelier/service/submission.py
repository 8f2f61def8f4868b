"""What a dialect hands over to be run."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import orjson

from atelier.media.conversion import Conversion


@dataclass(frozen=True, slots=True)
class Submission:
    """What a caller wants run: a registered workflow's name, or a whole graph.

    ``check_pictures``: a ``data:`` URL that holds no picture is refused at once, not when the
    job runs.
    """

    workflow: str | Mapping[str, Any]
    inputs: Mapping[str, Any] = field(default_factory=dict)
    user: str = "anonymous"
    priority: int = 0
    metadata: Mapping[str, Any] = field(default_factory=dict)
    max_attempts: int | None = None
    dialect: str = "native"
    idempotency_key: str | None = None
    check_pictures: bool = False
    conversion: Conversion | None = None  # how its pictures are to be kept
    cache: bool = False  # what an earlier job of this user made of the same may answer
    webhook_url: str | None = None  # told when the job has ended

    def fingerprint(self) -> str:
        """Equal for submissions that ask for the same."""
        asked: list[Any] = [
            self.workflow,
            dict(self.inputs),
            self.user,
            self.priority,
            dict(self.metadata),
            self.max_attempts,
        ]
        if self.conversion is not None:
            asked.append(self.conversion.as_dict())
        if self.webhook_url is not None:  # those of before are known without it
            asked.append(self.webhook_url)
        return hashlib.sha256(orjson.dumps(asked, option=orjson.OPT_SORT_KEYS)).hexdigest()[:32]
