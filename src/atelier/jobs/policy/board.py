"""A snapshot of what waits and of the pool, kept up to date as jobs are claimed."""

from collections.abc import Iterable

from atelier.jobs.policy.choice import Choice, Reason, Tuning
from atelier.jobs.policy.groups import Group, Head
from atelier.jobs.policy.instances import Estimates, InstanceState
from atelier.jobs.policy.lanes import Lane, Waiting
from atelier.jobs.policy.places import Place, Places
from atelier.jobs.policy.shares import Shares, cost_ms
from atelier.jobs.policy.users import Users
from atelier.jobs.policy.wanted import Wanted, by_model

GroupKey = tuple[int, str, str | None]


class Board:
    """Chooses for one seat after another; ``take`` tells it what was claimed.

    The rules, for the highest class that has a job for the seat:

    1. The jobs whose models are loaded here, the least served user's first (virtual time), then in
       order of arrival: WARM.
    2. After a run of at least K switches' worth of those, one that is DUE may go first, or one of a
       user who is far BEHIND, in turns. DUE is the oldest job that waited longer than T, of those
       whose model is loaded here or at no instance; the others are the business of those that
       have it. The run counts from there anew.
    3. If nothing that is loaded is wanted: what is DUE at once; else LOAD the model that most
       jobs and the oldest wait for, but none whose jobs start soon where it is loaded (LEFT).

    **Starvation bound.** Let R be the longest run, S the longest switch (at least
    ``least_switch_ms``), K the greatest, and C = 2 (K S + 2 R + S): twice, because DUE and BEHIND
    take turns. A job that its user may start, that came after A others of its class that still
    waited, starts at most ``T + (A + 1 + H + D) C`` after it came. H counts starts of higher
    classes in the meantime, D instances that went away or came back; time in which no instance
    that can run it is up comes on top. For in each C an instance whose business it is serves it
    or an older one. Where runs take longer than estimated, C grows by as much.
    """

    def __init__(
        self,
        waiting: Iterable[Waiting],
        pool: Iterable[InstanceState],
        shares: Shares,
        estimates: Estimates,
        tuning: Tuning | None = None,
    ) -> None:
        self.tuning = tuning or Tuning()
        self._estimates = estimates
        self._users = Users(shares)
        self._places = Places(pool)
        self._lanes: dict[str, Group] = {}
        self._groups: dict[GroupKey, Group] = {}
        self._switch: dict[tuple[str, str], float] = {}
        self._backlog_ms = 0.0
        for one in waiting:
            self.put(one)

    def set_instance(self, state: InstanceState) -> None:
        """Replace what is known of an instance."""
        self._places.put(Place(state))

    def instance(self, instance: str) -> InstanceState:
        """Return what is known of an instance, with all that it took."""
        return self._places[instance].state()

    def put(self, waiting: Waiting) -> None:
        """Replace what is known of a lane; a count of 0 removes it."""
        lane = waiting.lane
        key = lane.priority, lane.requirement, lane.model
        group = self._groups.get(key)
        if group is None:
            if not waiting.count:
                return
            group = self._groups[key] = Group(*key)
        before_ms = group.work_ms
        change = group.put(waiting, self._estimates.run_ms(lane, None), self._users)
        self._backlog_ms += group.work_ms - before_ms
        self._users.waits(lane.user, change)
        if waiting.count:
            self._lanes[lane.id] = group
        else:
            self._lanes.pop(lane.id, None)
            if not group:
                del self._groups[key]

    def waiting(self, lane: str) -> Waiting:
        """What is known of a lane with jobs."""
        return self._lanes[lane].waiting(lane)

    @property
    def floor_ms(self) -> float:
        """The pool's virtual time, to be kept with the shares."""
        return self._users.floor_ms

    def virtual_ms(self, user: str) -> float:
        """The virtual time that ``user`` competes with."""
        return self._users.virtual_ms(user)

    def choose(self, instance: str, now_ms: float) -> Choice:
        """Return the lane whose first job ``instance`` takes next, or until when it takes none.

        A job of a lower class is taken only when all of the higher ones are LEFT. Raises KeyError
        for an instance that isn't in the pool.
        """
        place = self._places[instance]
        if not place.up or self._users.full:
            return Choice(None, Reason.NOTHING)
        until: float | None = None
        able = [group for group in self._groups.values() if place.capable(group.requirement)]
        for priority in sorted({group.priority for group in able}, reverse=True):
            wanted = by_model((g for g in able if g.priority == priority), self._users)
            if not wanted:
                continue
            choice = self._of_class(wanted, place, now_ms)
            if choice.lane is not None:
                return choice
            if choice.until_ms is not None:
                until = min(choice.until_ms, choice.until_ms if until is None else until)
        return Choice(None, Reason.NOTHING if until is None else Reason.LEFT, until)

    def take(
        self, lane: str, instance: str, now_ms: float, reason: Reason = Reason.WARM
    ) -> tuple[float, float]:
        """Note that ``instance`` claims the first job of ``lane``, for the reason of the choice.

        Returns its expected run and switch times in ms, whose sum divided by the weight was added
        to the user's virtual time. Raises KeyError for a lane in which nothing waits.
        """
        waiting, place = self._lanes[lane].waiting(lane), self._places[instance]
        model = waiting.lane.model
        run_ms = self._estimates.run_ms(waiting.lane, instance)
        switch_ms = 0.0 if place.has(model) else self._switch_ms(model, place)
        self._places.take(place, model, run_ms, switch_ms, now_ms, reason)
        self._users.start(waiting.lane.user, cost_ms(run_ms, switch_ms, waiting.lane.weight))
        # The next job's age isn't known before the next snapshot: ages are taken as even.
        younger_ms = max(now_ms - waiting.oldest_ms, 0.0) / waiting.count
        oldest_ms = int(waiting.oldest_ms + younger_ms)
        self.put(Waiting(waiting.lane, waiting.count - 1, oldest_ms, waiting.oldest_seq))
        return run_ms, switch_ms

    def finish(self, user: str, correction_ms: float = 0.0) -> None:
        """Note that a job ended; ``correction_ms``: (real - expected cost) / weight."""
        self._users.finish(user, correction_ms)

    def _of_class(self, wanted: dict[str | None, Wanted], place: Place, now_ms: float) -> Choice:
        mine = min((one.head for m, one in wanted.items() if place.has(m)), default=None)
        if mine is not None and not self._ran_enough(place):
            return Choice(mine.lane, Reason.WARM)
        due = self._due(wanted, place, now_ms)
        if mine is None:
            return Choice(due, Reason.DUE) if due else self._load(wanted, place, now_ms)
        if due is None or place.last_due:
            behind = self._behind(wanted, mine, place)
            if behind is not None:
                return Choice(behind, Reason.BEHIND)
        return Choice(due, Reason.DUE) if due else Choice(mine.lane, Reason.WARM)

    def _due(self, wanted: dict[str | None, Wanted], place: Place, now_ms: float) -> Lane | None:
        oldest = min(
            (
                one.oldest(self._users)
                for model, one in wanted.items()
                if place.has(model) or not self._places.others(model, place)
            ),
            default=None,
        )
        if oldest is None or now_ms - oldest.since_ms <= self.tuning.patience_ms:
            return None
        return oldest.lane

    def _behind(self, wanted: dict[str | None, Wanted], mine: Head, place: Place) -> Lane | None:
        head = min(
            (one.head for model, one in wanted.items() if not self._places.loaded(model)),
            default=mine,
        )
        return head.lane if mine.virtual_ms - head.virtual_ms > self.tuning.lag_ms else None

    def _load(self, wanted: dict[str | None, Wanted], place: Place, now_ms: float) -> Choice:
        best: Wanted | None = None
        best_score = 0.0
        until: float | None = None
        for model, one in wanted.items():
            since_ms = one.oldest(self._users).since_ms
            too_long_ms = since_ms + self.tuning.longest_left_ms
            if now_ms < too_long_ms and self._starts_elsewhere(model, one, place, now_ms):
                until = too_long_ms if until is None else min(until, too_long_ms)
                continue
            jobs = one.counted(self.tuning.counted_per_user)
            score = jobs * self.tuning.ms_per_job + now_ms - since_ms
            if best is None or (score, best.head) > (best_score, one.head):
                best, best_score = one, score
        if best is None:
            return Choice(None, Reason.LEFT, until)
        return Choice(best.head.lane, Reason.LOAD)

    def _starts_elsewhere(
        self, model: str | None, one: Wanted, place: Place, now_ms: float
    ) -> bool:
        """Whether the instances that have ``model`` start all of it before a load is worth it."""
        horizon_ms = self.tuning.worth_switches * self._switch_ms(model, place)
        by_ms = max(place.free_at_ms, now_ms) + min(horizon_ms, self.tuning.longest_left_ms)
        mean_ms = max(one.work_ms / one.count, 1.0)
        room = 0
        for holder in self._places.others(model, place):
            left_ms = by_ms - max(holder.free_at_ms, now_ms)
            if left_ms > 0:
                room += 1 + int(left_ms / mean_ms)
                if room >= one.count:
                    return True
        return False

    def _switch_ms(self, model: str | None, place: Place) -> float:
        if model is None:
            return 0.0
        key = model, place.id
        if key not in self._switch:
            self._switch[key] = self._estimates.switch_ms(model, place.id)
        return self._switch[key]

    def _ran_enough(self, place: Place) -> bool:
        tuning = self.tuning
        backlog = self._backlog_ms / (max(self._places.up, 1) * tuning.patience_ms)
        times = min(max(tuning.least_work * backlog, tuning.least_work), tuning.most_work)
        switch_ms = max(self._switch_ms(place.model, place), tuning.least_switch_ms)
        return place.work_since_switch_ms >= times * switch_ms


def choose_lane(
    waiting: Iterable[Waiting],
    seat: str,
    pool: Iterable[InstanceState],
    shares: Shares,
    estimates: Estimates,
    now_ms: float,
) -> Choice:
    """Return what the instance ``seat`` of ``pool`` takes next, from a board for this once."""
    return Board(waiting, pool, shares, estimates).choose(seat, now_ms)
