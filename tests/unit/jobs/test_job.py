import random

import pytest

from atelier.jobs.job import STATUSES, TERMINAL, TRANSITIONS, NewJob, backoff_ms


class Fixed:
    def __init__(self, value: float) -> None:
        self.value = value

    def random(self) -> float:
        return self.value


@pytest.mark.parametrize(
    ("attempt", "least", "most"),
    [
        (1, 500, 1_000),
        (2, 1_000, 2_000),
        (3, 2_000, 4_000),
        (6, 16_000, 32_000),
        (7, 30_000, 60_000),  # 64 s is cut to the longest
        (1_000, 30_000, 60_000),  # no overflow however often
    ],
)
def test_backoff_doubles_up_to_a_minute(attempt, least, most):
    assert backoff_ms(attempt, Fixed(0.0)) == least
    assert backoff_ms(attempt, Fixed(1.0)) == most


def test_jobs_that_failed_together_do_not_return_together():
    rng = random.Random(1)
    assert len({backoff_ms(3, rng) for _ in range(20)}) > 15


def test_every_status_has_its_transitions():
    assert set(TRANSITIONS) == set(STATUSES)
    assert set().union(*TRANSITIONS.values()) <= set(STATUSES)


def test_success_is_final_and_other_ends_lead_back_only():
    assert TRANSITIONS["succeeded"] == frozenset()
    for status in TERMINAL - {"succeeded"}:
        assert TRANSITIONS[status] == {"queued"}


def test_batch_and_label_are_taken_from_the_metadata():
    needed = {
        "id": "1",
        "user": "u",
        "workflow": "w",
        "workflow_version": "1",
        "requirement": "r",
    }
    job = NewJob(**needed, metadata={"batch": "b", "style": "clay"})
    assert (job.batch, job.label) == ("b", "clay")
    job = NewJob(**needed, metadata={"batch": 7, "style": "clay"}, label="anime")
    assert (job.batch, job.label) == (None, "anime")
