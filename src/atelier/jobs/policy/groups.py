"""Lanes of one class, requirement and model: alike but for whose they are and what they run."""

import heapq
from typing import NamedTuple

from atelier.jobs.policy.lanes import Lane, Waiting
from atelier.jobs.policy.users import Users


class Head(NamedTuple):
    """A lane's turn: the least goes first. Ids differ, so that lanes are never compared."""

    virtual_ms: float
    seq: int
    id: str
    lane: Lane


class Oldest(NamedTuple):
    """A lane's age: the least came first."""

    since_ms: int
    seq: int
    id: str
    lane: Lane


class Group:
    def __init__(self, priority: int, requirement: str, model: str | None) -> None:
        self.priority = priority
        self.requirement = requirement
        self.model = model
        self.count = 0
        self.work_ms = 0.0
        self._lanes: dict[str, tuple[Waiting, float]] = {}
        self._per_user: dict[str, int] = {}
        self._heap: list[Head] = []
        self._lowered = 0

    def __bool__(self) -> bool:
        return bool(self._lanes)

    def waiting(self, lane: str) -> Waiting:
        return self._lanes[lane][0]

    def counted(self, most: int) -> int:
        """How many jobs wait, of each user at most so many."""
        return sum(min(count, most) for count in self._per_user.values())

    def oldest(self, users: Users) -> Oldest | None:
        """Return the lane whose first job came first, of users who may start one more."""
        return min(
            (
                Oldest(one.oldest_ms, one.oldest_seq, one.lane.id, one.lane)
                for one, _ in self._lanes.values()
                if not users.limited or users.may_start(one.lane.user)
            ),
            default=None,
        )

    def put(self, waiting: Waiting, run_ms: float, users: Users) -> int:
        """Replace a lane; returns how many more jobs wait in it than before."""
        lane = waiting.lane
        old = self._lanes.pop(lane.id, None)
        before = 0
        if old is not None:
            before = old[0].count
            self.work_ms -= before * old[1]
        change = waiting.count - before
        self.count += change
        of_user = self._per_user.get(lane.user, 0) + change
        if of_user:
            self._per_user[lane.user] = of_user
        else:
            self._per_user.pop(lane.user, None)
        if waiting.count:
            self._lanes[lane.id] = waiting, run_ms
            self.work_ms += waiting.count * run_ms
            if old is None or old[0].oldest_seq != waiting.oldest_seq:
                heapq.heappush(self._heap, _head(waiting, users))
        return change

    def head(self, users: Users) -> Head | None:
        """Return the lane whose user was served least, of users who may start one more."""
        if self._lowered != users.lowered:
            self._lowered = users.lowered
            self._heap = [_head(waiting, users) for waiting, _ in self._lanes.values()]
            heapq.heapify(self._heap)
        heap = self._heap
        passed: list[Head] = []
        found = None
        while heap:
            head = heap[0]
            known = self._lanes.get(head.id)
            if known is None or known[0].oldest_seq != head.seq:
                heapq.heappop(heap)  # left behind by a claim
                continue
            # A virtual time that has grown since leaves its entries too far in front.
            if users.virtual_ms(head.lane.user) > head.virtual_ms:
                heapq.heapreplace(heap, _head(known[0], users))
            elif users.limited and not users.may_start(head.lane.user):
                passed.append(heapq.heappop(heap))
            else:
                found = head
                break
        for head in passed:
            heapq.heappush(heap, head)
        return found


def _head(waiting: Waiting, users: Users) -> Head:
    lane = waiting.lane
    return Head(users.virtual_ms(lane.user), waiting.oldest_seq, lane.id, lane)
