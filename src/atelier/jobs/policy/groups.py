"""Lanes of one class, requirement and model: alike but for whose they are and what they run."""

import heapq

from atelier.jobs.policy.lanes import Lane, Waiting
from atelier.jobs.policy.users import Users

# Virtual time of the user, place in the order of arrival, and the lane; the least goes first.
Head = tuple[float, int, str, Lane]


class Group:
    def __init__(self, priority: int, requirement: str, model: str | None) -> None:
        self.priority = priority
        self.requirement = requirement
        self.model = model
        self.work_ms = 0.0
        self._lanes: dict[str, tuple[Waiting, float]] = {}
        self._per_user: dict[str, int] = {}
        self._heap: list[Head] = []
        self._lowered = 0

    def __bool__(self) -> bool:
        return bool(self._lanes)

    @property
    def oldest_ms(self) -> int:
        return min(waiting.oldest_ms for waiting, _ in self._lanes.values())

    def waiting(self, lane: str) -> Waiting:
        return self._lanes[lane][0]

    def counted(self, most: int) -> int:
        """How many jobs wait, of each user at most so many."""
        return sum(min(count, most) for count in self._per_user.values())

    def put(self, waiting: Waiting, run_ms: float, users: Users) -> tuple[int, int]:
        """Replace a lane; returns how many jobs waited in it before and after."""
        lane = waiting.lane
        old = self._lanes.pop(lane.id, None)
        before = 0
        if old is not None:
            before = old[0].count
            self.work_ms -= before * old[1]
        count = self._per_user.get(lane.user, 0) + waiting.count - before
        if count:
            self._per_user[lane.user] = count
        else:
            self._per_user.pop(lane.user, None)
        if waiting.count:
            self._lanes[lane.id] = waiting, run_ms
            self.work_ms += waiting.count * run_ms
            if old is None or old[0].oldest_seq != waiting.oldest_seq:
                entry = users.virtual_ms(lane.user), waiting.oldest_seq, lane.id, lane
                heapq.heappush(self._heap, entry)
        return before, waiting.count

    def head(self, users: Users) -> Head | None:
        """Return the lane whose user was served least, of users who may start one more."""
        if self._lowered != users.lowered:
            self._lowered = users.lowered
            self._heap = [
                (users.virtual_ms(one.lane.user), one.oldest_seq, one.lane.id, one.lane)
                for one, _ in self._lanes.values()
            ]
            heapq.heapify(self._heap)
        heap = self._heap
        passed: list[Head] = []
        found = None
        while heap:
            head = heap[0]
            virtual_ms, seq, id, lane = head
            known = self._lanes.get(id)
            if known is None or known[0].oldest_seq != seq:
                heapq.heappop(heap)  # left behind by a claim
                continue
            # A virtual time that has grown since leaves its entries too far in front.
            current = users.virtual_ms(lane.user)
            if current > virtual_ms:
                heapq.heapreplace(heap, (current, seq, id, lane))
            elif not users.may_start(lane.user):
                passed.append(heapq.heappop(heap))
            else:
                found = head
                break
        for head in passed:
            heapq.heappush(heap, head)
        return found
