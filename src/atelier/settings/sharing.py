"""How much may wait, who gets how much of the instances, and for how long."""

import math
from typing import Annotated

from pydantic import Field, field_validator
from pydantic_settings import BaseSettings, NoDecode

Weights = Annotated[dict[str, float], NoDecode]


class SharingSettings(BaseSettings):
    """A part of ``Settings``."""

    max_queued: int = Field(
        100_000,
        ge=0,
        validation_alias="ATELIER_MAX_QUEUED",
        description="Jobs that may wait in all; more are refused with 429. 0: any number.",
    )
    max_queued_per_user: int = Field(
        0,
        ge=0,
        validation_alias="ATELIER_MAX_QUEUED_PER_USER",
        description="Jobs of one user that may wait; more are refused with 429. 0: any number.",
    )
    max_running_per_user: int = Field(
        0,
        ge=0,
        validation_alias="ATELIER_MAX_RUNNING_PER_USER",
        description="Jobs of one user that may run at once; others wait. 0: any number.",
    )
    requests_per_minute: int | None = Field(
        None,
        ge=1,
        validation_alias="ATELIER_REQUESTS_PER_MINUTE",
        description="Submissions a minute of one user, or of one address where no user is named.",
    )
    all_requests_per_minute: int | None = Field(
        None,
        ge=1,
        validation_alias="ATELIER_ALL_REQUESTS_PER_MINUTE",
        description="Submissions a minute of all users together.",
    )
    user_weights: Weights = Field(
        {},
        validation_alias="ATELIER_USER_WEIGHTS",
        description="Shares of users in the instances, such as alice=3,bob=0.5; others have 1.",
    )

    lease_seconds: float = Field(
        15,
        ge=1,
        le=600,
        validation_alias="ATELIER_LEASE_SECONDS",
        description="How long a job or an instance stays a worker's that says nothing; a fifth "
        "of it (at most 3 s) after each sign of life the next is due. The same for all workers.",
    )

    @field_validator("user_weights", mode="before")
    @classmethod
    def split_weights(cls, value: object) -> object:
        if not isinstance(value, str):
            return value
        pairs = [part.rpartition("=") for part in value.split(",") if part.strip()]
        for user, _, weight in pairs:
            if not user.strip():
                raise ValueError(f"{weight.strip()!r} is not USER=WEIGHT")
        return {user.strip(): weight.strip() for user, _, weight in pairs}

    @field_validator("user_weights")
    @classmethod
    def need_positive(cls, value: dict[str, float]) -> dict[str, float]:
        for user, weight in value.items():
            if not (weight > 0 and math.isfinite(weight)):
                raise ValueError(f"the weight of {user} must be more than 0; it is {weight:g}")
        return value
