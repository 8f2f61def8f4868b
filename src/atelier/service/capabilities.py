"""Which instance can run what: requirements kept by hash, checked against each instance once."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import orjson

from atelier.pool.instance import Instance
from atelier.workflows.library import Alternative, ModelNeed, satisfied


@dataclass(frozen=True, slots=True)
class Requirement:
    """What a job needs, as alternatives in order of preference, and the hash that names it."""

    hash: str
    alternatives: tuple[Alternative, ...]

    def body(self) -> dict[str, object]:
        """The JSON-able form that is kept in the database."""
        return {
            "alternatives": [
                {
                    "variant": alternative.variant,
                    "classes": sorted(alternative.classes),
                    "models": [
                        {
                            "class_type": need.class_type,
                            "input": need.input,
                            "folder": need.folder,
                            "name": need.name,
                            "prefer": list(need.prefer),
                            "match": list(need.match),
                        }
                        for need in alternative.models
                    ],
                }
                for alternative in self.alternatives
            ]
        }


def requirement_of(alternatives: Sequence[Alternative]) -> Requirement:
    requirement = Requirement("", tuple(alternatives))
    digest = hashlib.sha256(orjson.dumps(requirement.body(), option=orjson.OPT_SORT_KEYS))
    return Requirement(digest.hexdigest()[:32], requirement.alternatives)


def parse_requirement(hash: str, body: Mapping[str, Any]) -> Requirement:
    """The inverse of ``Requirement.body``."""
    alternatives = []
    for raw in body["alternatives"]:
        models = tuple(
            ModelNeed(
                class_type=need["class_type"],
                input=need["input"],
                folder=need["folder"],
                name=need["name"],
                prefer=tuple(need["prefer"]),
                match=tuple(need.get("match", ())),  # rows of older versions have none
            )
            for need in raw["models"]
        )
        alternatives.append(
            Alternative(variant=raw["variant"], classes=frozenset(raw["classes"]), models=models)
        )
    return Requirement(hash, tuple(alternatives))


class Capabilities:
    """Remembers, per instance and state of its object_info, what it lacks for an alternative."""

    def __init__(self) -> None:
        self._requirements: dict[str, Requirement] = {}
        self._missing: dict[tuple[str, str, Alternative], tuple[str, ...]] = {}

    def remember(self, requirement: Requirement) -> None:
        self._requirements[requirement.hash] = requirement

    def known(self, hash: str) -> Requirement | None:
        return self._requirements.get(hash)

    def missing(self, instance: Instance, alternative: Alternative) -> tuple[str, ...]:
        """In words, what ``instance`` lacks; empty when it can run ``alternative``."""
        info = instance.object_info
        if info is None:
            return (f"{instance.id} has not answered yet",)
        key = (instance.id, info.revision, alternative)
        found = self._missing.get(key)
        if found is None:
            if len(self._missing) > 100_000:  # revisions of long ago
                self._missing.clear()
            found = self._missing[key] = tuple(satisfied(alternative, info))
        return found

    def choose_alternative(
        self, instance: Instance, alternatives: Sequence[Alternative]
    ) -> Alternative | None:
        """The first alternative that ``instance`` can run."""
        for alternative in alternatives:
            if not self.missing(instance, alternative):
                return alternative
        return None

    def can_run(self, instance: Instance, hash: str) -> bool:
        """False also for a hash that was never remembered."""
        requirement = self._requirements.get(hash)
        return (
            requirement is not None
            and self.choose_alternative(instance, requirement.alternatives) is not None
        )
