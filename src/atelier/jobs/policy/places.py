"""An instance on a board: what it will be after all that it has claimed."""

from atelier.jobs.policy.instances import InstanceState


class Place:
    def __init__(self, state: InstanceState) -> None:
        self.id = state.id
        self.up = state.up
        self.model = state.model
        self.warm = state.warm if state.model is None else state.warm | {state.model}
        self.work_since_switch_ms = state.work_since_switch_ms
        self.free_at_ms = state.free_at_ms
        self._keeps = state.keeps
        self._state = state
        self._able: dict[str, bool] = {}

    def capable(self, requirement: str) -> bool:
        able = self._able.get(requirement)
        if able is None:
            able = self._able[requirement] = self._state.capable(requirement)
        return able

    def take(self, model: str | None, run_ms: float, switch_ms: float, now_ms: float) -> None:
        self.free_at_ms = max(self.free_at_ms, now_ms) + switch_ms + run_ms
        if model is None or model in self.warm:
            self.work_since_switch_ms += run_ms
        else:
            kept = {self.model} if self.model is not None and self._keeps > 1 else set()
            self.warm = frozenset({model} | kept)
            self.work_since_switch_ms = run_ms
        self.model = model or self.model
