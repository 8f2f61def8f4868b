import random

import pytest

from atelier.webhooks.deliver import GIVE_UP_MS, backoff_ms, verdict


class Always:
    """Chance that always gives the same."""

    def __init__(self, value):
        self.value = value

    def random(self):
        return self.value


@pytest.mark.parametrize(
    ("attempt", "seconds"),
    [
        (1, 5),
        (2, 10),
        (3, 20),
        (8, 640),
        (12, 10_240),
        (13, 14_400),  # four hours at most
        (100, 14_400),
    ],
)
def test_pauses_double_up_to_four_hours_and_are_shortened_by_at_most_half(attempt, seconds):
    assert backoff_ms(attempt, Always(1.0)) == seconds * 1000
    assert backoff_ms(attempt, Always(0.0)) == seconds * 500


def test_a_day_has_room_for_more_than_a_dozen_attempts():
    rng, passed, attempts = random.Random(1), 0, 0
    while passed < GIVE_UP_MS:
        attempts += 1
        passed += backoff_ms(attempts, rng)
    assert 14 <= attempts <= 24


@pytest.mark.parametrize(
    ("status", "expected"),
    [
        (200, "delivered"),
        (204, "delivered"),
        (301, "again"),  # not followed; may be gone the next time
        (307, "again"),
        (400, "final"),
        (401, "final"),
        (404, "final"),
        (408, "again"),  # waited for us too long
        (410, "final"),
        (425, "again"),  # too early
        (429, "again"),  # too often
        (500, "again"),
        (503, "again"),
    ],
)
def test_answer_says_what_becomes_of_the_message(status, expected):
    assert verdict(status) == expected
