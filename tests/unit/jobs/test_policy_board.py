"""What a board chooses, case by case, and what holds for any of them."""

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from atelier.jobs.forecast import forecast
from atelier.jobs.policy import (
    Board,
    Estimates,
    InstanceState,
    Lane,
    Reason,
    Shares,
    Waiting,
    choose_lane,
)

NOW = 1_000_000.0
RUN, SWITCH = 5_000.0, 10_000.0
ESTIMATES = Estimates(lambda lane, instance: RUN, lambda model, instance: SWITCH)


def lane(user: str = "ada", model: str | None = "a", **fields) -> Lane:
    given = {"priority": 0, "weight": 1.0, "requirement": "r", "workflow": "w"} | fields
    return Lane(id=f"{user}/{model}/{given}", user=user, model=model, **given)


def wait(seq: int, one: Lane, *, count: int = 1, age_ms: float = 1_000) -> Waiting:
    return Waiting(one, count, int(NOW - age_ms), seq)


def seat(id: str = "s", *loaded: str, can: str = "r", **fields) -> InstanceState:
    fields.setdefault("model", loaded[-1] if loaded else None)
    return InstanceState(id, lambda needed: needed in can, frozenset(loaded), **fields)


def chosen(waiting, *pool, shares=None):
    return choose_lane(waiting, "s", pool, shares or Shares(), ESTIMATES, NOW)


BUSY = seat("t", "a", free_at_ms=NOW + 300_000)
FREE_SOON = seat("t", "a", free_at_ms=NOW + 2_000)
RAN = 16 * SWITCH


@pytest.mark.parametrize(
    ("waiting", "pool", "model", "reason"),
    [
        ([], [seat()], None, Reason.NOTHING),
        ([wait(1, lane())], [seat(up=False)], None, Reason.NOTHING),
        ([wait(1, lane(requirement="x"))], [seat()], None, Reason.NOTHING),
        ([wait(1, lane())], [seat()], "a", Reason.LOAD),
        ([wait(1, lane()), wait(2, lane(model="b"))], [seat("s", "b")], "b", Reason.WARM),
        # Two models stay loaded.
        ([wait(1, lane()), wait(2, lane(model="b"))], [seat("s", "a", "b")], "a", Reason.WARM),
        # A higher class goes first, whatever is loaded.
        (
            [wait(1, lane(model="b")), wait(2, lane(priority=1))],
            [seat("s", "b")],
            "a",
            Reason.LOAD,
        ),
        # The other instance frees up sooner than a load here would be done, or it doesn't.
        ([wait(1, lane())], [seat("s", "b"), FREE_SOON], None, Reason.LEFT),
        ([wait(1, lane())], [seat("s", "b"), BUSY], "a", Reason.LOAD),
        ([wait(1, lane(), count=50)], [seat("s", "b"), FREE_SOON], "a", Reason.LOAD),
        # No job is left to others for ever.
        ([wait(1, lane(), age_ms=130_000)], [seat("s", "b"), FREE_SOON], "a", Reason.LOAD),
        # Past T, and after K switches' worth of work, not before.
        (
            [wait(1, lane(), age_ms=61_000), wait(2, lane(model="b"))],
            [seat("s", "b", work_since_switch_ms=RAN)],
            "a",
            Reason.DUE,
        ),
        (
            [wait(1, lane(), age_ms=61_000), wait(2, lane(model="b"))],
            [seat("s", "b", work_since_switch_ms=SWITCH)],
            "b",
            Reason.WARM,
        ),
        # What is loaded elsewhere is the other's business.
        (
            [wait(1, lane(), age_ms=61_000), wait(2, lane(model="b"))],
            [seat("s", "b", work_since_switch_ms=RAN), BUSY],
            "b",
            Reason.WARM,
        ),
        # A job without a model is at home everywhere.
        ([wait(1, lane(model=None)), wait(2, lane())], [seat("s", "a")], None, Reason.WARM),
    ],
)
def test_choice(waiting, pool, model, reason):
    choice = chosen(waiting, *pool)
    assert choice.reason is reason
    assert (choice.lane.model if choice.lane else None) == model


def test_least_served_user_goes_first_and_ties_by_arrival():
    waiting = [wait(1, lane("ada")), wait(2, lane("bob")), wait(3, lane("cy"))]
    shares = Shares({"ada": 900.0, "bob": 100.0, "cy": 100.0})
    assert chosen(waiting, seat("s", "a"), shares=shares).lane.user == "bob"


def test_user_far_behind_interrupts_a_run_in_turn_with_the_due():
    old = wait(1, lane("ada"), age_ms=70_000)
    waiting = [old, wait(2, lane("ada", model="b")), wait(3, lane("bob", model="c"))]
    shares = Shares({"ada": 200_000.0})
    for last_due, reason in ((True, Reason.BEHIND), (False, Reason.DUE)):
        here = seat("s", "b", work_since_switch_ms=RAN, last_due=last_due)
        assert chosen(waiting, here, shares=shares).reason is reason


@pytest.mark.parametrize(
    ("shares", "user"),
    [
        (Shares(running={"ada": 2}, max_running={"ada": 2}), "bob"),
        (Shares(running={"ada": 2}, max_running_default=2), "bob"),
        (Shares(running={"ada": 1}, max_running_default=2), "ada"),
        (Shares(running={"cy": 4}, max_running_total=4), None),
    ],
)
def test_running_limits(shares, user):
    choice = chosen([wait(1, lane("ada")), wait(2, lane("bob"))], seat("s", "a"), shares=shares)
    assert (choice.lane.user if choice.lane else None) == user


def test_a_user_who_comes_back_has_saved_nothing_up():
    board = Board([wait(1, lane("ada"), count=3)], [seat("s", "a")], Shares(), ESTIMATES)
    for _ in range(2):
        board.take(board.choose("s", NOW).lane.id, "s", NOW)
    board.put(wait(9, lane("bob")))
    assert board.virtual_ms("bob") == board.virtual_ms("ada") == 2 * RUN


def test_weight_divides_what_a_start_costs_and_the_finish_corrects_it():
    one = wait(1, lane(weight=2.0), count=2)
    board = Board([one], [seat()], Shares(), ESTIMATES)
    assert board.take(one.lane.id, "s", NOW, Reason.LOAD) == (RUN, SWITCH)
    assert board.virtual_ms("ada") == (RUN + SWITCH) / 2
    board.finish("ada", 1_000)
    assert board.virtual_ms("ada") == (RUN + SWITCH) / 2 + 1_000


LANES = st.builds(
    lambda user, model, priority, needs: lane(user, model, priority=priority, requirement=needs),
    st.sampled_from("uvwx"),
    st.sampled_from(["a", "b", "c", None]),
    st.integers(0, 1),
    st.sampled_from("rq"),
)
WAITING = st.lists(
    st.tuples(LANES, st.integers(1, 40), st.integers(0, 200_000)),
    max_size=12,
    unique_by=lambda found: found[0].id,
).map(
    lambda found: [
        wait(seq, one, count=count, age_ms=age) for seq, (one, count, age) in enumerate(found)
    ]
)
STATES = st.builds(
    lambda model, can, work, free, up, last: InstanceState(
        "", can.__contains__, model=model, work_since_switch_ms=work, free_at_ms=NOW + free,
        up=up, last_due=last,
    ),
    st.sampled_from(["a", "b", "c", None]),
    st.sampled_from(["r", "q", "rq"]),
    st.integers(0, 400_000),
    st.integers(-50_000, 50_000),
    st.booleans(),
    st.booleans(),
)  # fmt: skip
POOLS = st.lists(STATES, min_size=1, max_size=4).map(
    lambda states: [_named(state, f"{n}") for n, state in enumerate(states)]
)
USERS = st.dictionaries(st.sampled_from("uvwx"), st.floats(0, 1e6))


def _named(state: InstanceState, id: str) -> InstanceState:
    return InstanceState(
        id, state.capable, state.warm, state.model, state.work_since_switch_ms,
        state.free_at_ms, state.keeps, state.up, state.last_due,
    )  # fmt: skip


@settings(max_examples=150, deadline=None)
@given(WAITING, POOLS, USERS)
def test_for_any_board(waiting, pool, users):
    shares = Shares(users)
    here = pool[0]
    choice = choose_lane(waiting, here.id, pool, shares, ESTIMATES, NOW)
    able = [one for one in waiting if here.capable(one.lane.requirement)] if here.up else []
    # The order in which things are told doesn't matter.
    assert choice == choose_lane(waiting[::-1], here.id, pool[::-1], shares, ESTIMATES, NOW)
    if choice.lane is None:
        # Work conservation: idle only while all that it can run is young and loaded elsewhere.
        loaded = {other.model for other in pool[1:] if other.up}
        for one in able:
            assert one.lane.model in loaded
            assert NOW - one.oldest_ms < 120_000
        assert (choice.until_ms is not None) == bool(able)
        return
    assert here.capable(choice.lane.requirement)
    others = {other.model for other in pool[1:] if other.up}
    for one in able:
        if one.lane.priority > choice.lane.priority:
            assert one.lane.model in others  # it starts there
    if choice.reason is Reason.WARM:
        board = Board(waiting, pool, shares, ESTIMATES)
        rivals = [
            one
            for one in able
            if one.lane.priority == choice.lane.priority and one.lane.model in (None, here.model)
        ]
        least = min(board.virtual_ms(one.lane.user) for one in rivals)
        assert board.virtual_ms(choice.lane.user) == least


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.sampled_from("uvw"), st.integers(100, 9_000)), min_size=3), USERS)
def test_users_who_wait_for_the_same_are_served_alike(jobs, weights):
    """Fairness bound: virtual times of users who always wait differ by one job at most."""
    runs = {f"{n}": run for n, (_, run) in enumerate(jobs)}
    estimates = Estimates(lambda lane, instance: runs[lane.workflow], lambda model, instance: 0.0)
    lanes = [
        lane(user, "a", workflow=f"{n}", weight=1 + weights.get(user, 0) / 1e6)
        for n, (user, _) in enumerate(jobs)
    ]
    waiting = [wait(n, one, count=100) for n, one in enumerate(lanes)]
    board = Board(waiting, [seat("s", "a")], Shares(), estimates)
    users = {one.user for one in lanes}
    for _ in range(60):
        board.take(board.choose("s", NOW).lane.id, "s", NOW)
        virtual = [board.virtual_ms(user) for user in users]
        assert max(virtual) - min(virtual) <= max(runs.values())


@settings(max_examples=60, deadline=None)
@given(WAITING, POOLS, USERS)
def test_forecast_expects_every_job_once_that_can_run(waiting, pool, users):
    found = forecast(waiting, pool, Shares(users), ESTIMATES, NOW, played=30)
    positions = sorted(one.position for expected in found.values() for one in expected)
    assert positions == list(range(len(positions)))
    for one in waiting:
        can = any(state.up and state.capable(one.lane.requirement) for state in pool)
        assert len(found[one.lane.id]) == (one.count if can else 0)
        for before, after in itertools.pairwise(found[one.lane.id]):
            assert before.start_ms <= after.start_ms
        assert all(NOW <= job.start_ms < job.end_ms for job in found[one.lane.id])
