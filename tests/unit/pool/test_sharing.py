"""Who serves what: each worker for itself, and it comes out even."""

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from atelier.pool.sharing import Decision, Seen, decide


def free(*ids):
    return [Seen(id, None, None) for id in ids]


def test_a_worker_alone_takes_all():
    assert decide("w1", free("a", "b"), {"w1": "h"}, held=()) == Decision(take=("a", "b"))


def test_what_another_holds_is_left_to_it():
    seen = [Seen("a", None, "w2"), Seen("b", None, None)]
    assert decide("w1", seen, {"w1": "h", "w2": "h"}, held=()) == Decision(take=("b",))


def test_worker_that_comes_gets_its_part():
    seen = [Seen(id, None, "w1") for id in "abc"]
    workers = {"w1": "h", "w2": "h"}
    assert decide("w1", seen, workers, held="abc") == Decision(leave=("c",))
    seen[2] = Seen("c", None, None)
    assert decide("w1", seen, workers, held="ab") == Decision()
    assert decide("w2", seen, workers, held="") == Decision(take=("c",))


def test_more_workers_than_instances_leave_it_as_it_is():
    seen = [Seen("a", None, "w1")]
    assert decide("w1", seen, {f"w{n}": "h" for n in (1, 2, 3)}, held="a") == Decision()


def test_only_workers_of_its_host_take_a_side_car():
    seen = [Seen("a", "h1", None), Seen("b", "h2", None)]
    workers = {"w1": "h1", "w2": "h2"}
    assert decide("w1", seen, workers, held=()) == Decision(take=("a",))
    assert decide("w2", seen, workers, held=()) == Decision(take=("b",))
    # with its host gone, nobody can
    assert decide("w1", seen[1:], {"w1": "h1"}, held=()) == Decision()


def test_side_cars_count_towards_the_part():
    seen = [Seen("a", "h1", "w1"), Seen("b", "h1", "w1"), Seen("c", None, None)]
    workers = {"w1": "h1", "w2": "h2"}
    assert decide("w2", seen, workers, held=()) == Decision(take=("c",))


def test_what_nobody_takes_is_taken_in_the_end():
    seen = [Seen("a", None, "w1"), Seen("b", None, None)]
    workers = {"w1": "h", "w2": "h"}
    assert decide("w1", seen, workers, held="a") == Decision()
    assert decide("w1", seen, workers, held="a", orphans="b") == Decision(take=("b",))


def test_what_an_earlier_life_held_is_taken_again():
    seen = [Seen("a", None, "w1"), Seen("b", None, "w1")]
    workers = {"w1": "h", "w2": "h"}
    assert decide("w1", seen, workers, held=()).take == ("a", "b")


def rounds(ids, hosts, workers, holding):
    """All workers decide in turn until nothing moves; who holds what at each step."""
    for _ in range(60):
        moved = False
        for me in sorted(workers):
            seen = [
                Seen(id, hosts.get(id), next((w for w, own in holding.items() if id in own), None))
                for id in ids
            ]
            decision = decide(me, seen, workers, held=frozenset(holding[me]))
            holding[me] |= set(decision.take)
            holding[me] -= set(decision.leave)
            moved |= decision != Decision()
        if not moved:
            return holding
    raise AssertionError(f"it never settles: {holding}")


@settings(max_examples=150, deadline=None)
@given(
    instances=st.integers(0, 12),
    workers=st.integers(1, 5),
    first=st.integers(0, 4),
    dies=st.booleans(),
)
def test_it_settles_evenly_whoever_comes_and_goes(instances, workers, first, dies):
    ids = [f"i{n:02}" for n in range(instances)]
    names = {f"w{n}": "h" for n in range(workers)}
    holding = {name: set() for name in names}
    holding[f"w{first % workers}"] |= set(ids)
    rounds(ids, {}, names, holding)
    if dies and workers > 1:
        del names["w0"], holding["w0"]
        rounds(ids, {}, names, holding)
    held = sorted(itertools.chain(*holding.values()))
    assert held == ids, "each once"
    counts = [len(own) for own in holding.values()]
    assert max(counts) <= -(-instances // len(names))


@pytest.mark.parametrize("first", ["w1", "w2"])
def test_mixed_hosts_settle_with_everything_served(first):
    ids, hosts = ["a", "b", "c", "d"], {"a": "h1", "b": "h1"}
    holding = {"w1": set(), "w2": set()}
    holding[first] |= {"c", "d"}
    rounds(ids, hosts, {"w1": "h1", "w2": "h2"}, holding)
    assert holding["w1"] >= {"a", "b"}
    assert holding["w1"] | holding["w2"] == set(ids)
