"""Which job each free seat gets: what waits is read seldom, chosen from by the policy, and taken.

A claim is one seek in an index. The view of the queue is read again when somebody wakes us, when
it holds nothing for a seat, and at most so often that reading takes a tenth of the time.
"""

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import structlog

from atelier.jobs.lanes import Lane, Waiting
from atelier.jobs.policy import Board, Choice, Reason, Shares
from atelier.jobs.queue import Claim, UserShares
from atelier.pool.instance import Instance
from atelier.service.capabilities import parse_requirement
from atelier.service.standing import Turn, takes_jobs
from atelier.worker.context import Context

log = structlog.get_logger(__name__)

READING_SHARE = 0.1
OLDEST_VIEW_SECONDS = 0.5  # for a seat that finds nothing in it
RUN_TIMES_SECONDS = 30.0
# Before the instance is expected to be free: enough to fetch and bring the next one's pictures.
AHEAD_SECONDS = 5.0
# So long a job waits for an instance of another worker that stands idle before one that is busy
# takes it ahead: what polls has looked by then.
OTHERS_SECONDS = 1.2
# So long a job that failed at one instance waits for another before it is tried there again.
AVOIDED_MS = 60_000.0


@dataclass(frozen=True, slots=True)
class Found:
    """A claim, or None and how long there is nothing to look for unless something happens."""

    claim: Claim | None
    wait_seconds: float


@dataclass(slots=True)
class _Account:
    """What users were charged here and the database doesn't know yet, in virtual ms."""

    deltas: dict[str, float] = field(default_factory=dict)
    floor_ms: float = 0.0

    def add(self, user: str, virtual_ms: float) -> None:
        self.deltas[user] = self.deltas.get(user, 0.0) + virtual_ms


class Claiming:
    """Claims for the instances that this worker drives. One caller at a time.

    ``max_running`` limits the running jobs of one user, None: any number.
    """

    def __init__(
        self, context: Context, *, poll_seconds: float, max_running: int | None = None
    ) -> None:
        self._context = context
        self._poll_seconds = poll_seconds
        self._max_running = max_running
        self._board: Board | None = None
        self._is_stale = True
        self._read_at = float("-inf")
        self._read_seconds = self._last_took = 0.0
        self._run_times_at = float("-inf")
        self._clock_ahead_ms = 0.0  # of the database's clock before ours
        self._waiting_since: dict[str, int] = {}  # by lane
        self._turns: dict[str, Turn] = {}
        self._account = _Account()
        self._charged: dict[str, tuple[Lane, float]] = {}  # job id -> what its start has cost

    @property
    def owed(self) -> Mapping[str, float]:
        """What users were charged and ``tell`` hasn't written down yet, in virtual ms."""
        return self._account.deltas

    def look_again(self) -> None:
        """What waits, or who could run it, has changed."""
        self._is_stale = True

    async def next(self, instance: Instance) -> Found:
        """Claim the next job for ``instance``. Raises DatabaseUnavailable."""
        ahead_ms = self._too_early_ms(instance)
        if ahead_ms > 0:
            return Found(None, min(ahead_ms / 1000, self._poll_seconds))
        if self._is_stale and self._may_read():
            await self._read()
        found = await self._from_board(instance)
        if found.claim is None and self._context.clock() - self._read_at > self._oldest():
            await self._read()
            found = await self._from_board(instance)
        return found

    def ended(self, job: str, execute_ms: float | None) -> None:
        """Correct what the start of ``job`` has charged to what it took; None: nothing."""
        charged = self._charged.pop(job, None)
        if charged is None:
            return
        lane, cost_ms = charged
        correction = ((execute_ms or 0.0) - cost_ms) / lane.weight
        self._account.add(lane.user, correction)
        if self._board is not None:
            self._board.finish(lane.user, correction)

    async def tell(self) -> None:
        """Write down what was charged and learned since the last time. Raises DatabaseUnavailable.

        A worker that dies before has a second's charges forgotten: nobody waits longer for it.
        """
        context, account = self._context, self._account
        deltas, account.deltas = account.deltas, {}
        learned = context.estimates.take_news()
        floors = dict.fromkeys(deltas, account.floor_ms)

        async def work(conn: Any) -> None:
            if deltas:
                await context.queue.charge(conn, deltas, at_least_ms=floors)
            if learned:
                await context.queue.learn(conn, learned)

        if not deltas and not learned:
            return
        try:
            await context.database.run(work, durable=False, attempts_seconds=0.5)
        except BaseException:
            for user, delta in deltas.items():
                account.add(user, delta)
            context.estimates.give_back(learned)
            raise

    # -- choosing ------------------------------------------------------------------------------

    def _too_early_ms(self, instance: Instance) -> float:
        """How long it is until the instance needs its next job, if it has one."""
        usage = instance.usage
        if not usage.work.jobs:
            return 0.0
        return usage.free_in_ms() - AHEAD_SECONDS * 1000

    async def _from_board(self, instance: Instance) -> Found:
        board = self._board
        assert board is not None
        board.set_instance(self._context.standing.state(instance, self._now_ms(), self._turns))
        passed: list[Waiting] = []
        try:
            return await self._first_taken(board, instance, passed)
        finally:
            for one in passed:
                board.put(one)

    async def _first_taken(self, board: Board, instance: Instance, passed: list[Waiting]) -> Found:
        """Try lanes until a job of one is ours; in ``passed`` go those left to other instances."""
        context = self._context
        while True:
            now_ms = self._now_ms()
            choice = board.choose(instance.id, now_ms)
            lane = choice.lane
            if lane is None:
                return Found(None, self._until(choice, now_ms))
            if self._is_for_others(lane, instance, now_ms):
                return Found(None, 0.1)
            is_avoidable = bool(self._others(lane, instance, within_ms=AVOIDED_MS))

            async def work(
                conn: Any, lane: Lane = lane, avoided: bool = not is_avoidable
            ) -> list[Claim]:
                return await context.queue.claim_lane(
                    conn,
                    worker=context.worker,
                    instance=instance.id,
                    lane=lane.id,
                    lease_ms=context.lease_ms,
                    avoided=avoided,
                )

            # A power loss may undo a claim: then the job waits as before, and what ComfyUI did
            # for it is lost. Not to wait for the disk here makes every job some ms shorter.
            claims = await context.database.run(work, durable=False)
            if claims:
                self._took(board, choice, lane, instance, claims[0])
                return Found(claims[0], 0.0)
            # Others were faster, or its jobs had better go elsewhere.
            if is_avoidable:
                passed.append(board.waiting(lane.id))
            board.put(Waiting(lane, 0, 0, 0))

    def _took(
        self, board: Board, choice: Choice, lane: Lane, instance: Instance, claim: Claim
    ) -> None:
        run_ms, switch_ms = board.take(lane.id, instance.id, self._now_ms(), choice.reason)
        cost_ms = run_ms + switch_ms
        self._account.add(lane.user, cost_ms / lane.weight)
        self._account.floor_ms = max(self._account.floor_ms, board.floor_ms)
        self._charged[claim.job.id] = lane, cost_ms
        turn = self._turns.setdefault(instance.id, Turn())
        is_due = choice.reason is Reason.DUE
        begins = bool(switch_ms) or is_due or choice.reason is Reason.BEHIND
        if is_due or choice.reason is Reason.BEHIND:
            turn.last_due = is_due
        turn.work_since_switch_ms = run_ms + (0.0 if begins else turn.work_since_switch_ms)

    def _until(self, choice: Choice, now_ms: float) -> float:
        if choice.until_ms is None:
            return self._poll_seconds
        return min(max((choice.until_ms - now_ms) / 1000, 0.01), self._poll_seconds)

    def _is_for_others(self, lane: Lane, instance: Instance, now_ms: float) -> bool:
        """Whether to leave a new job to an instance of another worker that has nothing to do."""
        if not instance.usage.work.jobs:
            return False
        oldest_ms = self._waiting_since.get(lane.id)
        if oldest_ms is None or now_ms - oldest_ms > OTHERS_SECONDS * 1000:
            return False
        return any(not other.driven for other in self._others(lane, instance))

    def _others(self, lane: Lane, instance: Instance, *, within_ms: float = 0.0) -> list[Instance]:
        """The other instances that can run jobs of ``lane`` and are free in ``within_ms``."""
        capabilities, ours_ms = self._context.capabilities, self._context.now_ms()
        return [
            other
            for other in self._context.pool.instances
            if other is not instance
            and takes_jobs(other)
            and other.busy_until_ms(ours_ms) <= ours_ms + within_ms
            and capabilities.can_run(other, lane.requirement)
        ]

    # -- looking -------------------------------------------------------------------------------

    def _may_read(self) -> bool:
        since = self._context.clock() - self._read_at
        return not self._waiting_since or since >= self._read_seconds / READING_SHARE

    def _oldest(self) -> float:
        return self._read_seconds / READING_SHARE if self._is_stale else OLDEST_VIEW_SECONDS

    async def _read(self) -> None:
        context = self._context
        began = context.clock()
        self._is_stale = False  # whoever wakes us from here on means what comes after
        try:
            async with context.database.read() as conn:
                waiting = await context.queue.waiting(conn)
                shares = await context.queue.shares(conn, {one.lane.user for one in waiting})
                there_ms = await context.queue.time_ms(conn)
                wanted = {one.lane.requirement for one in waiting}
                unknown = {hash for hash in wanted if context.capabilities.known(hash) is None}
                if unknown:
                    # Another process wrote them, or this one before a restart.
                    for hash, body in (await context.queue.requirements(conn, unknown)).items():
                        context.capabilities.remember(parse_requirement(hash, body))
                if began - self._run_times_at > RUN_TIMES_SECONDS:
                    context.estimates.recall(await context.queue.run_times(conn))
                    self._run_times_at = began
        except BaseException:
            self._is_stale = True
            raise
        self._clock_ahead_ms = there_ms - time.monotonic() * 1000
        self._waiting_since = {one.lane.id: one.oldest_ms for one in waiting}
        self._board = Board(
            waiting,
            context.standing.states(self._now_ms(), self._turns),
            self._shares(shares),
            context.standing.costs,
        )
        self._read_at = context.clock()
        took = self._read_at - began
        # The quicker of the last two: one may have had to compile, or to wait for others.
        self._read_seconds, self._last_took = min(took, self._last_took), took

    def _now_ms(self) -> float:
        """The database's time."""
        return time.monotonic() * 1000 + self._clock_ahead_ms

    def _shares(self, read: UserShares) -> Shares:
        virtual = dict(read.virtual_ms)
        for user, delta in self._account.deltas.items():
            virtual[user] = max(virtual.get(user, 0.0), self._account.floor_ms) + delta
        return Shares(
            virtual_ms=virtual,
            floor_ms=self._account.floor_ms,
            running=read.running,
            max_running_default=self._max_running,
        )
