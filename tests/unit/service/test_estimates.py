"""When a job will be done, as far as anybody can tell."""

from dataclasses import replace

import pytest

from atelier.jobs.job import Job, Progress
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


def estimates(instances=1, now=0):
    return Estimates(instances_up=lambda: instances, now_ms=lambda: now)


def test_nothing_is_known_at_first():
    fresh = estimates()
    assert fresh.run_ms("w", "v") is None
    assert fresh.eta_seconds(JOB, 1) is None


def test_mean_moves_a_fifth_towards_each_run():
    learned = estimates()
    learned.learn("w", "v", 1000)
    assert learned.run_ms("w", "v") == 1000
    learned.learn("w", "v", 2000)
    assert learned.run_ms("w", "v") == 1200
    assert learned.run_ms("w", "other") is None


@pytest.mark.parametrize(
    ("position", "instances", "expected"),
    [
        # next: half of what runs, then its own
        (1, 1, 15.0),
        # two before it
        (3, 1, 35.0),
        # two instances work through the queue
        (3, 2, 25.0),
        # nobody works
        (1, 0, None),
    ],
)
def test_eta_of_a_waiting_job(position, instances, expected):
    learned = estimates(instances)
    learned.learn("w", "v", 10_000)
    assert learned.eta_seconds(JOB, position) == expected


@pytest.mark.parametrize(
    ("now", "expected"),
    [(1000, 10.0), (5000, 6.0), (60_000, 0.0)],
)
def test_eta_of_a_running_job_is_what_is_left(now, expected):
    learned = estimates(now=now)
    learned.learn("w", "v", 10_000)
    job = replace(JOB, status="running", started_at_ms=1000)
    assert learned.eta_seconds(job, None) == expected


def test_other_workflows_are_better_than_nothing():
    learned = estimates()
    learned.learn("another", None, 4000)
    assert learned.eta_seconds(JOB, 1) == 6.0


@pytest.mark.parametrize("status", ["succeeded", "failed", "cancelled"])
def test_ended_job_has_no_eta(status):
    learned = estimates()
    learned.learn("w", "v", 1000)
    assert learned.eta_seconds(replace(JOB, status=status), None) is None
