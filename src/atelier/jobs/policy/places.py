"""The instances on a board: what each will be after all that it has claimed."""

from collections.abc import Iterable
from dataclasses import replace

from atelier.jobs.policy.choice import Reason
from atelier.jobs.policy.instances import InstanceState


class Place:
    def __init__(self, state: InstanceState) -> None:
        self.id = state.id
        self.up = state.up
        self.model = state.model
        self.warm = state.warm if state.model is None else state.warm | {state.model}
        self.work_since_switch_ms = state.work_since_switch_ms
        self.free_at_ms = state.free_at_ms
        self.last_due = state.last_due
        self._state = state
        self._able: dict[str, bool] = {}

    def capable(self, requirement: str) -> bool:
        able = self._able.get(requirement)
        if able is None:
            able = self._able[requirement] = self._state.capable(requirement)
        return able

    def has(self, model: str | None) -> bool:
        return model is None or model in self.warm

    def state(self) -> InstanceState:
        return replace(
            self._state,
            model=self.model,
            warm=self.warm,
            work_since_switch_ms=self.work_since_switch_ms,
            free_at_ms=self.free_at_ms,
            last_due=self.last_due,
        )

    def take(
        self, model: str | None, run_ms: float, switch_ms: float, now_ms: float, reason: Reason
    ) -> None:
        self.free_at_ms = max(self.free_at_ms, now_ms) + switch_ms + run_ms
        begins = reason in (Reason.DUE, Reason.BEHIND)
        if begins:
            self.last_due = reason is Reason.DUE
        if not self.has(model):
            begins = True
            kept = {self.model} if self.model is not None and self._state.keeps > 1 else set()
            self.warm = frozenset({model or "", *kept})
        self.work_since_switch_ms = run_ms + (0.0 if begins else self.work_since_switch_ms)
        self.model = model or self.model


class Places:
    """By id, and by the models that are loaded at instances that are up."""

    def __init__(self, pool: Iterable[InstanceState]) -> None:
        self._places: dict[str, Place] = {}
        self._holders: dict[str, dict[str, Place]] = {}
        self.up = 0
        for state in pool:
            self.put(Place(state))

    def __getitem__(self, instance: str) -> Place:
        return self._places[instance]

    def put(self, place: Place) -> None:
        old = self._places.get(place.id)
        if old is not None:
            self._forget(old)
            self.up -= old.up
        self._places[place.id] = place
        self.up += place.up
        self._note(place)

    def take(
        self,
        place: Place,
        model: str | None,
        run_ms: float,
        switch_ms: float,
        now_ms: float,
        reason: Reason,
    ) -> None:
        self._forget(place)
        place.take(model, run_ms, switch_ms, now_ms, reason)
        self._note(place)

    def loaded(self, model: str | None) -> bool:
        """Whether an instance that is up has ``model``."""
        return model is None or bool(self._holders.get(model))

    def others(self, model: str | None, place: Place) -> list[Place]:
        """The other instances that are up and have ``model``."""
        holders = self._holders.get(model or "", {})
        return [holder for holder in holders.values() if holder is not place]

    def _note(self, place: Place) -> None:
        if place.up:
            for model in place.warm:
                self._holders.setdefault(model, {})[place.id] = place

    def _forget(self, place: Place) -> None:
        if place.up:
            for model in place.warm:
                self._holders[model].pop(place.id, None)
