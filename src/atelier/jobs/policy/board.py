"""A snapshot of what waits and of the pool, kept up to date as jobs are claimed."""

from collections.abc import Iterable

from atelier.jobs.policy.choice import Choice, Reason, Tuning
from atelier.jobs.policy.groups import Group
from atelier.jobs.policy.instances import Estimates, InstanceState
from atelier.jobs.policy.lanes import Waiting
from atelier.jobs.policy.places import Place
from atelier.jobs.policy.shares import Shares, cost_ms
from atelier.jobs.policy.users import Users

GroupKey = tuple[int, str, str | None]


class Board:
    """Chooses for one seat after another; ``take`` tells it what was claimed.

    Building one costs about as much as a few choices, so that a worker may make a new one for
    every snapshot that it reads, and must when capabilities changed.
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
        self._places: dict[str, Place] = {}
        self._lanes: dict[str, Group] = {}
        self._groups: dict[GroupKey, Group] = {}
        self._switch: dict[tuple[str, str | None], float] = {}
        for state in pool:
            self.set_instance(state)
        for one in waiting:
            self.put(one)

    def set_instance(self, state: InstanceState) -> None:
        """Replace what is known of an instance."""
        self._places[state.id] = Place(state)

    def put(self, waiting: Waiting) -> None:
        """Replace what is known of a lane; a count of 0 removes it."""
        lane = waiting.lane
        key = lane.priority, lane.requirement, lane.model
        group = self._groups.get(key)
        if group is None:
            if not waiting.count:
                return
            group = self._groups[key] = Group(*key)
        before, after = group.put(waiting, self._estimates.run_ms(lane, None), self._users)
        self._users.waits(lane.user, after - before)
        if after:
            self._lanes[lane.id] = group
        else:
            self._lanes.pop(lane.id, None)
            if not group:
                del self._groups[key]

    @property
    def floor_ms(self) -> float:
        """The pool's virtual time, to be kept with the shares."""
        return self._users.floor_ms

    def choose(self, instance: str, now_ms: float) -> Choice:
        """Return the lane whose first job ``instance`` takes next, or until when it takes none."""
        place = self._places[instance]
        if not place.up or self._users.full:
            return Choice(None, Reason.NOTHING)
        until: float | None = None
        able = [group for group in self._groups.values() if place.capable(group.requirement)]
        for priority in sorted({group.priority for group in able}, reverse=True):
            choice = self._of_class(
                [group for group in able if group.priority == priority], place, now_ms
            )
            if choice.lane is not None:
                return choice
            if choice.until_ms is not None:
                until = min(until or choice.until_ms, choice.until_ms)
        return Choice(None, Reason.NOTHING if until is None else Reason.LEFT, until)

    def take(self, lane: str, instance: str, now_ms: float) -> tuple[float, float]:
        """Note that ``instance`` claims the first job of ``lane``.

        Returns its expected run and switch times in ms, what was added to the user's virtual time
        times the weight.
        """
        group, place = self._lanes[lane], self._places[instance]
        waiting = group.waiting(lane)
        run_ms = self._estimates.run_ms(waiting.lane, instance)
        switch_ms = self._switch_ms(waiting.lane.model, place)
        place.take(waiting.lane.model, run_ms, switch_ms, now_ms)
        self._users.start(waiting.lane.user, cost_ms(run_ms, switch_ms, waiting.lane.weight))
        # The next job's age isn't known before the next snapshot: ages are taken as even.
        step = (now_ms - waiting.oldest_ms) / waiting.count
        self.put(
            Waiting(
                waiting.lane,
                waiting.count - 1,
                int(waiting.oldest_ms + max(step, 0.0)),
                waiting.oldest_seq,
            )
        )
        return run_ms, switch_ms

    def finish(self, user: str, correction_ms: float = 0.0) -> None:
        """Note that a job ended; ``correction_ms`` is real minus expected cost, by weight."""
        self._users.finish(user, correction_ms)

    def _switch_ms(self, model: str | None, place: Place) -> float:
        if model is None or model in place.warm:
            return 0.0
        key = model, place.id
        if key not in self._switch:
            self._switch[key] = self._estimates.switch_ms(model, place.id)
        return self._switch[key]

    def _of_class(self, groups: list[Group], place: Place, now_ms: float) -> Choice:
        models: dict[str | None, list[Group]] = {}
        for group in groups:
            if group.head(self._users) is not None:
                models.setdefault(group.model, []).append(group)
        if not models:
            return Choice(None, Reason.NOTHING)
        mine = [m for m in models if m is None or m in place.warm]
        starving = self._starving(models, place, now_ms)
        if mine and not (starving is not None and self._worked_enough(place)):
            return self._fairest([g for m in mine for g in models[m]], Reason.WARM)
        if starving is not None:
            return self._fairest(models[starving], Reason.DUE)
        best: list[Group] | None = None
        best_score = 0.0
        until: float | None = None
        for model, own in models.items():
            freed = self._holders_free_ms(model, place)
            sooner = now_ms + self._switch_ms(model, place)
            if freed is not None and freed <= sooner:
                until = min(sooner if until is None else until, sooner)
                continue
            score = sum(
                group.counted(self.tuning.counted_per_user) * self.tuning.weight_per_job_ms
                for group in own
            ) + max(now_ms - group.oldest_ms for group in own)
            if best is None or score > best_score:
                best, best_score = own, score
        if best is None:
            return Choice(None, Reason.LEFT, until)
        return self._fairest(best, Reason.LOAD)

    def _starving(
        self, models: dict[str | None, list[Group]], place: Place, now_ms: float
    ) -> str | None:
        oldest, found = now_ms - self.tuning.patience_ms, None
        for model, groups in models.items():
            if model is None or model in place.warm:
                continue
            since = min(group.oldest_ms for group in groups)
            if since < oldest and self._holders_free_ms(model, place) is None:
                oldest, found = since, model
        return found

    def _holders_free_ms(self, model: str | None, place: Place) -> float | None:
        return min(
            (
                other.free_at_ms
                for other in self._places.values()
                if other is not place and other.up and model in other.warm
            ),
            default=None,
        )

    def _worked_enough(self, place: Place) -> bool:
        tuning = self.tuning
        up = sum(other.up for other in self._places.values())
        backlog_ms = sum(group.work_ms for group in self._groups.values())
        least = tuning.least_work * backlog_ms / (up * tuning.patience_ms)
        times = min(max(least, tuning.least_work), tuning.most_work)
        if place.model is None:
            return True
        cost = self._estimates.switch_ms(place.model, place.id)
        return place.work_since_switch_ms >= times * cost

    def _fairest(self, groups: list[Group], reason: Reason) -> Choice:
        heads = [head for group in groups if (head := group.head(self._users)) is not None]
        return Choice(min(heads)[3], reason)


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
