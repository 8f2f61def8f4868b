import pytest

from atelier.limits import Policy
from atelier.limits.limiter import judge

MINUTE = Policy("user", 60)


@pytest.mark.parametrize(
    ("ahead_ms", "cost", "allowed", "remaining", "retry"),
    [
        (0, 1, True, 59, None),
        (-5, 1, True, 59, None),  # it has had its whole quota back for a while
        (0, 60, True, 0, None),
        (0, 61, True, 0, None),  # more than a quota counts as all of it
        (59_000, 1, True, 0, None),
        (59_001, 1, False, 0, 0.001),
        (60_000, 1, False, 0, 1.0),  # one comes back each second
        (60_000, 10, False, 0, 10.0),
        (30_000, 31, False, 30, 1.0),
    ],
)
def test_quota_can_be_used_at_once_and_comes_back_evenly(ahead_ms, cost, allowed, remaining, retry):
    verdict = judge([MINUTE], {"user": ahead_ms}, cost)
    assert verdict.allowed == allowed
    assert verdict.states[0].remaining == remaining
    assert verdict.retry_after_seconds == pytest.approx(retry)


def test_of_two_policies_the_one_that_takes_longer_decides():
    verdict = judge([MINUTE, Policy("all", 6)], {"user": 60_000, "all": 60_000}, 1)
    assert verdict.retry_after_seconds == pytest.approx(10)


def test_where_one_refuses_none_is_charged():
    verdict = judge([MINUTE, Policy("all", 6)], {"user": 0, "all": 60_000}, 1)
    assert [state.remaining for state in verdict.states] == [60, 0]
