"""When a job will be done, as far as anybody can tell."""

from dataclasses import replace

import pytest

from atelier.jobs.job import Job, Progress
from atelier.jobs.queue import RunKey, RunTime
from atelier.service.estimates import Estimates

JOB = Job(
    id="j", user="u", workflow="w", workflow_version="1", variant="v", requirement="r",
    model=None, status="queued", priority=0, progress=Progress(), inputs={}, graph=None,
    seed=None, outputs=(), error=None, attempts=0, max_attempts=3, instance=None, worker=None,
    prompt_id=None, lease=0, cancel_requested=False, created_at_ms=0, started_at_ms=None,
    submitted_at_ms=None, finished_at_ms=None, updated_at_ms=0, deleted_at_ms=None,
    run_after_ms=0, estimate_ms=None, timings={}, metadata={}, dialect="native", batch=None,
    label=None,
)  # fmt: skip


RUNNING = replace(JOB, status="running", started_at_ms=1000)


def estimates(now=0):
    return Estimates(now_ms=lambda: now)


def test_nothing_is_known_at_first():
    fresh = estimates()
    assert not fresh.known
    assert fresh.run_ms("w", "v") is None
    assert fresh.remaining_seconds(RUNNING) is None
    assert fresh.expected_ms("w", "v", None) > 0


def test_mean_moves_a_fifth_towards_each_run():
    learned = estimates()
    learned.learn("w", "v", 1000)
    assert learned.run_ms("w", "v") == 1000
    learned.learn("w", "v", 2000)
    assert learned.run_ms("w", "v") == 1200
    assert learned.run_ms("w", "other") is None


@pytest.mark.parametrize(
    ("now", "expected"),
    [(1000, 10.0), (5000, 6.0), (60_000, 0.0)],
)
def test_eta_of_a_running_job_is_what_is_left(now, expected):
    learned = estimates(now=now)
    learned.learn("w", "v", 10_000)
    assert learned.remaining_seconds(RUNNING) == expected


def test_other_workflows_are_better_than_nothing():
    learned = estimates()
    learned.learn("another", None, 4000)
    assert learned.expected_ms("w", "v", None) == 4000


def test_a_slow_instance_is_slow_with_what_it_never_ran():
    learned = estimates()
    learned.recall(
        {
            RunKey("w", None, "quick"): RunTime(1000, 5),
            RunKey("w", None, "slow"): RunTime(3000, 5),
            RunKey("x", None, "quick"): RunTime(2000, 5),
        }
    )
    assert learned.expected_ms("w", None, "slow") == 3000
    assert learned.expected_ms("x", None, "quick") == 2000
    assert learned.expected_ms("x", None, "slow") == pytest.approx(2000 * 1.5)


def test_news_is_told_once_and_comes_back_if_it_could_not_be():
    learned = estimates()
    learned.learn("w", "v", 1000, instance="i")
    learned.learn("w", "v", 2000, instance="i")
    news = learned.take_news()
    assert news == {RunKey("w", "v", "i"): RunTime(1200, 2)}
    assert learned.take_news() == {}
    learned.give_back(news)
    assert learned.take_news() == news
