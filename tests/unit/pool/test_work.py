"""How long an instance is busy, in ms; the clock is the test's."""

import pytest

from atelier.pool.work import DEFAULT_RUN_MS, Work


def free_in(work, now=0.0, loading=100.0):
    return work.free_in_ms(now, lambda model: loading)


def test_idle_instance_is_free_now():
    assert free_in(Work()) == 0


def test_claimed_jobs_take_what_such_jobs_took():
    work = Work()
    work.learn("upscale", "classic", 500)
    work.claimed("j1", "upscale", "classic", None)
    work.claimed("j2", "unheard of", None, None)
    assert free_in(work) == 500 + 500  # the unknown takes the mean of all
    work.started("j1", 0)
    assert free_in(work, now=200) == 300 + 500
    assert free_in(work, now=900) == 500  # overdue: any moment now
    work.left("j1")
    work.left("j1")
    assert free_in(work) == 500


def test_before_anything_is_known_there_is_a_guess():
    work = Work()
    work.claimed("j1", "a", None, None)
    assert free_in(work) == DEFAULT_RUN_MS


def test_loading_counts_once_per_change_of_model():
    work = Work()
    work.learn("w", None, 10)
    for id, model in (("1", "a"), ("2", "a"), ("3", "b"), ("4", None)):
        work.claimed(id, "w", None, model)
    assert free_in(work, loading=100) == 40 + 200
    work.started("1", 0)
    assert free_in(work, loading=100) == 40 + 100  # a is loaded by the one that runs


def test_prompts_of_other_people_count():
    work = Work()
    work.learn("w", None, 1000)
    work.foreign_running, work.foreign_pending = 1, 2
    assert work.foreign == 3
    assert free_in(work) == 2500


def test_speeds_are_moving_averages_by_workflow_and_variant():
    work = Work()
    for ms in (100, 200):
        work.learn("a", None, ms)
    work.learn("a", "fast", 50)
    assert work.speeds == {"a": pytest.approx(120), "a/fast": 50}
    assert work.run_ms("a", "slow") is None


def test_guess_counts_until_something_is_known():
    work = Work()
    work.learn("a", None, 9000, is_guess=True)
    assert work.run_ms("a", None) == 9000
    work.learn("a", None, 1000)
    assert work.run_ms("a", None) == 1000
    work.learn("a", None, 9000, is_guess=True)
    assert work.run_ms("a", None) == 1000
