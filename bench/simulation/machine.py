"""Instances that run what a scheduler gives them, event by event."""

import heapq
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

from bench.simulation.load import Arrival, Load


@dataclass(slots=True)
class Node:
    """An instance: the model that it has loaded, the job that it runs and until when."""

    index: int
    id: str
    speed: float
    holds: frozenset[str]
    model: str | None = None
    job: Arrival | None = None
    free_at_ms: float = 0.0
    run: int = 0  # counts starts, so that the end of a job that died with its instance is void
    up: bool = True


@dataclass(frozen=True, slots=True)
class Done:
    job: Arrival
    instance: int
    started_ms: float
    ended_ms: float
    switch_ms: float

    @property
    def flow_ms(self) -> float:
        return self.ended_ms - self.job.at_ms

    @property
    def wait_ms(self) -> float:
        return self.started_ms - self.job.at_ms


@dataclass(slots=True)
class Outcome:
    done: list[Done] = field(default_factory=list)
    scheduler: object = None


class Scheduler(Protocol):
    """``next`` returns a job, or None and perhaps when to be asked again."""

    def arrived(self, job: Arrival, now_ms: float) -> None: ...

    def next(self, node: Node, now_ms: float) -> tuple[Arrival | None, float | None]: ...

    def ended(self, done: Done, node: Node, now_ms: float) -> None: ...

    def died(self, node: Node, job: Arrival | None, now_ms: float) -> None: ...

    def came_up(self, node: Node, now_ms: float) -> None: ...


ARRIVAL, END, DOWN, UP, AGAIN = range(5)
Policy = Callable[[Load, list[Node]], Scheduler]


def simulate(load: Load, policy: Policy) -> Outcome:
    """Run until all that arrived is done."""
    setting = load.setting
    nodes = [
        Node(n, f"instance-{n}", setting.speed(n), load.holds[n]) for n in range(setting.instances)
    ]
    scheduler = policy(load, nodes)
    outcome = Outcome(scheduler=scheduler)
    events: list[tuple[float, int, int, object]] = []
    count = 0

    def at(time_ms: float, kind: int, what: object) -> None:
        nonlocal count
        count += 1
        heapq.heappush(events, (time_ms, count, kind, what))

    for arrival in load.arrivals:
        at(arrival.at_ms, ARRIVAL, arrival)
    for death in setting.deaths:
        at(death.at_ms, DOWN, death)
    started: dict[int, tuple[float, float]] = {}
    asked_again: dict[int, float] = {}
    left = len(load.arrivals)
    while events and left:
        now, _, kind, what = heapq.heappop(events)
        if kind == ARRIVAL:
            assert isinstance(what, Arrival)
            scheduler.arrived(what, now)
        elif kind == END:
            assert isinstance(what, tuple)
            node, run = what
            if node.run != run or node.job is None:
                continue
            job, node.job = node.job, None
            began, switch = started.pop(node.index)
            done = Done(job, node.index, began, now, switch)
            outcome.done.append(done)
            left -= 1
            scheduler.ended(done, node, now)
        elif kind == DOWN:
            node = nodes[what.instance]  # type: ignore[attr-defined]
            job, node.job, node.model, node.up = node.job, None, None, False
            node.run += 1
            scheduler.died(node, job, now)
            at(now + what.lasts_ms, UP, node)  # type: ignore[attr-defined]
        elif kind == UP:
            assert isinstance(what, Node)
            what.up = True
            what.free_at_ms = now
            scheduler.came_up(what, now)
        else:
            asked_again.pop(what, None)  # type: ignore[call-overload]
        progress = True
        while progress:
            progress = False
            for node in nodes:
                if node.job is not None or not node.up:
                    continue
                found, again = scheduler.next(node, now)
                if found is not None:
                    model = found.lane.model
                    assert found.lane.requirement in node.holds
                    switch = 0.0 if model is None or model == node.model else load.switch_ms[model]
                    node.model = model or node.model
                    node.job = found
                    node.run += 1
                    node.free_at_ms = now + switch + found.run_ms / node.speed
                    started[node.index] = now, switch
                    at(node.free_at_ms, END, (node, node.run))
                    progress = True
                elif again is not None and not now < asked_again.get(node.index, 0.0) <= again:
                    # At least a moment later, so that time goes on.
                    asked_again[node.index] = again = max(again, now + 1.0)
                    at(again, AGAIN, node.index)
    return outcome
