"""Other policies, to be compared with: they look at every queued job."""

from collections import deque

from bench.simulation.load import Arrival, Load
from bench.simulation.machine import Done, Node


class Rival:
    """Keeps what waits by model, each in order of arrival."""

    def __init__(self, load: Load, nodes: list[Node]) -> None:
        self.load = load
        self.nodes = nodes
        self.queues: dict[str, deque[Arrival]] = {}

    def arrived(self, job: Arrival, now_ms: float) -> None:
        self.queues.setdefault(job.lane.model or "", deque()).append(job)

    def ended(self, done: Done, node: Node, now_ms: float) -> None:
        pass

    def died(self, node: Node, job: Arrival | None, now_ms: float) -> None:
        if job is not None:
            self.queues.setdefault(job.lane.model or "", deque()).appendleft(job)

    def came_up(self, node: Node, now_ms: float) -> None:
        pass

    def next(self, node: Node, now_ms: float) -> tuple[Arrival | None, float | None]:
        live = [m for m, queue in self.queues.items() if queue and m in node.holds]
        if not live:
            return None, None
        model = self.pick(live, node, now_ms)
        return (None, None) if model is None else (self.take(model), None)

    def take(self, model: str) -> Arrival:
        return self.queues[model].popleft()

    def pick(self, live: list[str], node: Node, now_ms: float) -> str | None:
        raise NotImplementedError

    def oldest(self, live: list[str]) -> str:
        return min(live, key=lambda m: self.queues[m][0].seq)


class FirstCome(Rival):
    """First come, first served."""

    def pick(self, live: list[str], node: Node, now_ms: float) -> str | None:
        idle = [n.model for n in self.nodes if n is not node and n.up and n.job is None]
        oldest = self.oldest(live)
        return oldest if oldest == node.model or oldest not in idle else None


class FairBlind(Rival):
    """Virtual time per user, whatever is loaded."""

    def __init__(self, load: Load, nodes: list[Node]) -> None:
        super().__init__(load, nodes)
        self.virtual: dict[str, float] = {}

    def arrived(self, job: Arrival, now_ms: float) -> None:
        user = job.lane.user
        waiting = {one.lane.user for queue in self.queues.values() for one in queue}
        if user not in waiting:
            floor = min((self.virtual.get(u, 0.0) for u in waiting), default=0.0)
            self.virtual[user] = max(self.virtual.get(user, 0.0), floor)
        super().arrived(job, now_ms)

    def next(self, node: Node, now_ms: float) -> tuple[Arrival | None, float | None]:
        best = min(
            (
                (self.virtual.get(one.lane.user, 0.0), one.seq, one)
                for model, queue in self.queues.items()
                if model in node.holds
                for one in queue
            ),
            key=lambda found: found[:2],
            default=None,
        )
        if best is None:
            return None, None
        job = best[2]
        self.queues[job.lane.model or ""].remove(job)
        self.virtual[job.lane.user] = best[0] + job.run_ms
        return job, None


class AffinityAge(Rival):
    """What is loaded, but who is older than a minute goes first."""

    def pick(self, live: list[str], node: Node, now_ms: float) -> str | None:
        oldest = self.oldest(live)
        if now_ms - self.queues[oldest][0].at_ms > 60_000:
            return oldest
        return node.model if node.model in live else oldest


class Greedy(Rival):
    """What is loaded, else the oldest."""

    def pick(self, live: list[str], node: Node, now_ms: float) -> str | None:
        return node.model if node.model in live else self.oldest(live)


class Pressure(Rival):
    """What is loaded; else the model of the highest pressure, and none that is loaded elsewhere
    and keeps up.

    Pressure is ten seconds for each waiting job, at most three of a user, and the oldest's wait.
    """

    def pick(self, live: list[str], node: Node, now_ms: float) -> str | None:
        if node.model in live:
            return node.model

        def pressure(model: str) -> float:
            queue = self.queues[model]
            users: dict[str, int] = {}
            for one in queue:
                users[one.lane.user] = min(users.get(one.lane.user, 0) + 1, 3)
            return 10_000 * sum(users.values()) + now_ms - queue[0].at_ms

        by = {model: now_ms + self.load.switch_ms[model] for model in live}
        free = [
            model
            for model in live
            if not any(
                other.model == model and other.up and other.free_at_ms < by[model]
                for other in self.nodes
                if other is not node
            )
        ]
        return max(free, key=pressure, default=None)


class MinimumRun(Pressure):
    """Pressure and fair share, with a minimum of work after a switch (K >= 4, T = 60 s)."""

    def __init__(self, load: Load, nodes: list[Node]) -> None:
        super().__init__(load, nodes)
        self.virtual: dict[str, float] = {}
        self.jobs: dict[str, int] = {}
        self.work: dict[int, float] = {}

    def arrived(self, job: Arrival, now_ms: float) -> None:
        user = job.lane.user
        if not self.jobs.get(user):
            active = [self.virtual.get(u, 0.0) for u, count in self.jobs.items() if count]
            self.virtual[user] = max(self.virtual.get(user, 0.0), min(active, default=0.0))
        self.jobs[user] = self.jobs.get(user, 0) + 1
        super().arrived(job, now_ms)

    def ended(self, done: Done, node: Node, now_ms: float) -> None:
        self.jobs[done.job.lane.user] -= 1

    def next(self, node: Node, now_ms: float) -> tuple[Arrival | None, float | None]:
        live = [m for m, queue in self.queues.items() if queue and m in node.holds]
        if not live:
            return None, None
        loaded = {other.model for other in self.nodes if other.up}
        starving = [
            m for m in live if m not in loaded and now_ms - self.queues[m][0].at_ms > 60_000
        ]
        model: str | None
        if node.model in live and not (starving and self.ran_enough(node)):
            model = node.model
        elif starving:
            model = self.oldest(starving)
        else:
            model = super().pick(live, node, now_ms)
        if model is None:
            return None, None
        job = min(
            self.queues[model], key=lambda one: (self.virtual.get(one.lane.user, 0.0), one.seq)
        )
        self.queues[model].remove(job)
        switch = 0.0 if model == node.model else self.load.switch_ms[model]
        self.work[node.index] = job.run_ms + (0.0 if switch else self.work.get(node.index, 0.0))
        self.virtual[job.lane.user] = self.virtual.get(job.lane.user, 0.0) + job.run_ms + switch
        return job, None

    def ran_enough(self, node: Node) -> bool:
        if node.model is None:
            return True
        backlog = sum(one.run_ms for queue in self.queues.values() for one in queue)
        times = min(max(4 * backlog / (len(self.nodes) * 60_000), 4.0), 40.0)
        return self.work.get(node.index, 0.0) >= times * self.load.switch_ms[node.model]
