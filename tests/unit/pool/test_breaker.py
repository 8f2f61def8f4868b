"""When an instance is left alone, and for how long."""

import pytest

from atelier.pool.breaker import FIRST_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS, Breaker


def failed(breaker, *moments, chance=0.0, crash=False):
    for now in moments:
        breaker = breaker.failed(now, chance=chance, crash=crash)
    return breaker


@pytest.mark.parametrize(
    ("what", "state_at_5", "state_at_9"),
    [
        ([], "closed", "closed"),
        (["fail", "fail"], "closed", "closed"),
        # three in a row; the shortest pause is half of 5 s
        (["fail", "fail", "fail"], "open", "half_open"),
        # a job that worked in between shows that it wasn't the instance
        (["fail", "fail", "work", "fail", "fail"], "closed", "closed"),
        (["fail", "fail", "work", "fail", "fail", "fail"], "open", "half_open"),
        # one crash takes the socket and every prompt with it
        (["crash", "crash", "crash", "crash"], "closed", "closed"),
    ],
)
def test_it_opens_after_failures_in_a_row(what, state_at_5, state_at_9):
    breaker = Breaker()
    for number, kind in enumerate(what):
        now = 4 + number / 10
        if kind == "work":
            breaker = breaker.worked(now)
        else:
            breaker = breaker.failed(now, chance=0.0, crash=kind == "crash")
    assert (breaker.state(5), breaker.state(9)) == (state_at_5, state_at_9)


def test_crashes_apart_from_each_other_count_each():
    assert failed(Breaker(), 0, 6, 12, crash=True).state(12.1) == "open"


def test_half_open_lets_one_through_whose_end_decides():
    breaker = failed(Breaker(), 0, 0, 0)
    assert not breaker.allows(1, under_way=0)
    assert breaker.allows(10, under_way=0)
    assert not breaker.allows(10, under_way=1)
    assert breaker.worked(10) == Breaker()
    again = failed(breaker, 10)
    assert again.state(10.1) == "open"
    assert again.openings == 2


def test_closed_lets_everything_through():
    assert Breaker().allows(0, under_way=50)


def test_what_ends_while_it_is_open_changes_nothing():
    breaker = failed(Breaker(), 0, 0, 0)
    assert breaker.worked(1) == breaker
    assert failed(breaker, 1).open_until == breaker.open_until


def test_pauses_double_up_to_the_longest_and_are_spread():
    breaker, pauses, now = failed(Breaker(), 0, 0), [], 0.0
    for _ in range(40):
        breaker = failed(breaker, now, chance=0.999)
        pauses.append(breaker.open_until - now)
        now = breaker.open_until
    assert pauses[0] == pytest.approx(FIRST_PAUSE_SECONDS, rel=0.01)
    assert pauses[1] == pytest.approx(2 * FIRST_PAUSE_SECONDS, rel=0.01)
    assert pauses[-1] == pytest.approx(LONGEST_PAUSE_SECONDS, rel=0.01)
    low = failed(Breaker(), 0, 0, 0, chance=0.0).open_until
    assert low == pytest.approx(FIRST_PAUSE_SECONDS / 2)
