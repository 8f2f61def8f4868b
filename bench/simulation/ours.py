"""The product's own policy in simulated time."""

from collections import deque
from dataclasses import replace

from atelier.jobs.forecast import forecast
from atelier.jobs.policy import Board, Estimates, InstanceState, Lane, Shares, Tuning, Waiting
from bench.simulation.load import Arrival, Load
from bench.simulation.machine import Done, Node


class Ours:
    """Keeps a board as a worker does; its ``forecasts`` are the expected ends of some jobs."""

    def __init__(
        self,
        load: Load,
        nodes: list[Node],
        tuning: Tuning | None = None,
        forecast_every: int = 0,
    ) -> None:
        self.nodes = nodes
        self.forecast_every = forecast_every
        self.forecasts: dict[int, float] = {}
        self.lanes: dict[str, deque[Arrival]] = {}
        self.expected: dict[str, float] = {}
        speeds = {node.id: node.speed for node in nodes}
        mean = sum(speeds.values()) / len(speeds)

        def run_ms(lane: Lane, instance: str | None) -> float:
            at = mean if instance is None else speeds[instance]
            return load.estimated_run_ms[lane.workflow] / at

        self.estimates = Estimates(run_ms, lambda model, instance: load.estimated_switch_ms[model])
        self.board = Board(
            [], [self.state(node) for node in nodes], Shares(), self.estimates, tuning
        )

    def state(self, node: Node) -> InstanceState:
        return InstanceState(node.id, node.holds.__contains__, up=node.up)

    def arrived(self, job: Arrival, now_ms: float) -> None:
        self.lanes.setdefault(job.lane.id, deque()).append(job)
        self.put(job.lane)
        if self.forecast_every and job.seq % self.forecast_every == 0:
            self.forecasts[job.seq] = self.expected_end_ms(job, now_ms)

    def expected_end_ms(self, job: Arrival, now_ms: float) -> float:
        waiting = [
            Waiting(queue[0].lane, len(queue), int(queue[0].at_ms), queue[0].seq)
            for queue in self.lanes.values()
            if queue
        ]
        users = {one.lane.user for one in waiting}
        shares = Shares({user: self.board.virtual_ms(user) for user in users})
        pool = [self.board.instance(node.id) for node in self.nodes]
        found = forecast(waiting, pool, shares, self.estimates, now_ms)[job.lane.id]
        place = len(self.lanes[job.lane.id]) - 1
        return found[place].end_ms if place < len(found) else now_ms

    def put(self, lane: Lane) -> None:
        queue = self.lanes[lane.id]
        head = queue[0] if queue else None
        self.board.put(
            Waiting(
                lane,
                len(queue),
                int(head.at_ms) if head else 0,
                head.seq if head else 0,
            )
        )

    def next(self, node: Node, now_ms: float) -> tuple[Arrival | None, float | None]:
        choice = self.board.choose(node.id, now_ms)
        if choice.lane is None:
            return None, choice.until_ms
        lane = choice.lane
        job = self.lanes[lane.id].popleft()
        run_ms, switch_ms = self.board.take(lane.id, node.id, now_ms, choice.reason)
        self.expected[node.id] = run_ms + switch_ms
        self.put(lane)
        return job, None

    def ended(self, done: Done, node: Node, now_ms: float) -> None:
        took = done.ended_ms - done.started_ms
        self.board.finish(
            done.job.lane.user, (took - self.expected[node.id]) / done.job.lane.weight
        )
        self.board.set_instance(replace(self.board.instance(node.id), free_at_ms=now_ms))

    def died(self, node: Node, job: Arrival | None, now_ms: float) -> None:
        if job is not None:
            self.lanes[job.lane.id].appendleft(job)
            self.put(job.lane)
            self.board.finish(job.lane.user)
        self.board.set_instance(self.state(node))

    def came_up(self, node: Node, now_ms: float) -> None:
        self.board.set_instance(self.state(node))
