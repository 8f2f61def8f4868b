"""How far a job is, from what ComfyUI says of its prompt. Pure.

The marks are those that callers of the studio dialect know: accepted 10, inputs stored 15,
workflow built 20, submitted 30, sampling 30 to 95, outputs stored 95 to 100.
"""

from collections.abc import Mapping
from typing import Any

from atelier.comfy.messages import Executing, ExecutionCached, Progress, ProgressState
from atelier.jobs.job import Progress as JobProgress

ACCEPTED = 10
INPUTS_STORED = 15
BUILT = 20
SUBMITTED = 30
EXECUTED = 95
DONE = 100


def is_sampler(class_type: str) -> bool:
    """Whether a node of this class reports the steps that make up most of a run."""
    return "Sampler" in class_type or class_type.startswith("Atelier")


class ProgressMeter:
    """Turns messages about one prompt into a percentage that never falls.

    Between 30 and 95 each node counts once, a node that samples fifty times: a run with two
    samplers is half way when the first has ended.
    """

    SAMPLER_WEIGHT = 50.0

    def __init__(self, graph: Mapping[str, Mapping[str, Any]]) -> None:
        self._weight = {
            node: self.SAMPLER_WEIGHT if is_sampler(str(spec.get("class_type"))) else 1.0
            for node, spec in graph.items()
        }
        self._share: dict[str, float] = {}
        self._current = JobProgress(percent=SUBMITTED)

    @property
    def current(self) -> JobProgress:
        return self._current

    def take(self, message: object) -> JobProgress | None:
        """The new progress, or None when ``message`` changes nothing that a caller would see."""
        node, step, steps = self._current.node, self._current.step, self._current.steps
        match message:
            case ExecutionCached(nodes=nodes):
                self._share.update(dict.fromkeys(nodes, 1.0))
            case Executing(node=running) if running is not None:
                if running != node:
                    node, step, steps = running, None, None
            case Progress(node=running, value=value, max=maximum) if maximum > 0:
                if running is not None:
                    self._share[running] = max(
                        self._share.get(running, 0.0), min(value / maximum, 1.0)
                    )
                if maximum > 1:
                    node, step, steps = running, int(value), int(maximum)
            case ProgressState(nodes=nodes):
                for name, state in nodes.items():
                    if state.state == "finished":
                        self._share[name] = 1.0
            case _:
                return None
        percent = max(self._current.percent, self._percent())
        new = JobProgress(percent=percent, step=step, steps=steps, node=node)
        if new == self._current:
            return None
        self._current = new
        return new

    def _percent(self) -> int:
        total = sum(self._weight.values()) or 1.0
        done = sum(self._weight.get(node, 0.0) * share for node, share in self._share.items())
        return SUBMITTED + int((EXECUTED - SUBMITTED) * min(done / total, 1.0))
