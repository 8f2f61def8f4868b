"""The counting itself: each broken promise is seen, and what keeps them isn't."""

import importlib
from pathlib import Path

import pytest


@pytest.fixture
def verdict(monkeypatch):
    """The benchmarks are no part of the package."""
    monkeypatch.syspath_prepend(str(Path(__file__).parents[2]))
    return importlib.import_module("bench.chaos.verdict")


@pytest.fixture
def look(verdict):
    """Judges one job, number 7, whose prompt p1 ran at engine e; the rest as given."""

    def judged(lines=(), *, orphans=(), harms=(), cancelled=(), **record):
        journals = verdict.Journals()
        ran = [
            {"at": 1.0, "what": "received", "prompt": "p1", "mark": "chaos/7"},
            {"at": 1.1, "what": "began", "prompt": "p1"},
            {"at": 1.2, "what": "ended", "prompt": "p1", "how": "success"},
        ]
        journals.read("e", sorted([*ran, *lines], key=lambda line: line["at"]))
        kept = {
            "id": "job",
            "status": "succeeded",
            "lease": 1,
            "prompt": "p1",
            "error": None,
            "made_by": ("p1",),
            "leases_of_outputs": (1,),
            "published": (1,),
        }
        records = {"job": verdict.Record(**(kept | record))}
        accepted = {7: "job"}
        count = verdict.judge(accepted, records, journals, spooled=(), cancelled=cancelled)
        verdict.split_reruns(count, accepted, journals, engine_harms=harms, orphans=orphans)
        return count

    return judged


AGAIN = (
    {"at": 3.0, "what": "received", "prompt": "p2", "mark": "chaos/7"},
    {"at": 3.2, "what": "ended", "prompt": "p2", "how": "success"},
)


def test_a_job_that_ran_once_breaks_nothing(look):
    count = look()
    assert not (count.lost)
    assert not (count.twice)
    assert not (count.stale)
    assert not (count.neighbours)
    assert not count.reruns
    assert count.statuses == {"succeeded": 1}


@pytest.mark.parametrize("status", ["queued", "running"])
def test_a_job_without_an_end_is_lost(look, status):
    assert look(status=status).lost == [f"job {status}"]


def test_success_without_outputs_is_lost(look):
    assert look(made_by=(), leases_of_outputs=(), published=()).lost


def test_outputs_of_two_attempts_are_published_twice(look):
    assert look(published=(1, 2)).twice


@pytest.mark.parametrize(
    "record",
    [
        {"prompt": "p2", "lease": 2},
        {"leases_of_outputs": (1,), "lease": 2},
        {"made_by": ("p9",), "prompt": "p9"},
    ],
)
def test_outputs_that_the_last_claim_did_not_make_are_stale(look, record):
    assert len(look(AGAIN, **record).stale) == 1


def test_a_prompt_that_was_stopped_for_nobody_is_a_neighbour(look):
    stopped = {"at": 3.2, "what": "ended", "prompt": "p2", "how": "interrupted"}
    lines = (AGAIN[0], stopped)
    assert look(lines).neighbours
    assert not look(lines, cancelled={"job"}).neighbours


def test_a_prompt_that_arrives_twice_is_seen(look):
    again = {"at": 1.05, "what": "received", "prompt": "p1", "mark": "chaos/7"}
    assert look([again]).received_twice == ["p1"]


@pytest.mark.parametrize(
    ("lines", "harms", "reason"),
    [
        ((), (), "at a living engine"),
        (({"at": 2.0, "what": "up", "pid": 1},), (), "its engine died"),
        ((), (("e", 2.0, 9.0),), "its engine was out of reach"),
        ((), (("other", 2.0, 9.0),), "at a living engine"),
    ],
)
def test_reruns_are_split_by_what_caused_them(look, lines, harms, reason):
    record = {"prompt": "p2", "made_by": ("p2",)}
    assert look([*AGAIN, *lines], harms=harms, **record).reruns == {reason: 1}


def test_reattached_are_the_prompts_that_did_not_run_again(look):
    orphans = [(1.15, "job", "p1")]
    kept, lost = look(orphans=orphans), look(AGAIN, orphans=orphans, prompt="p2", made_by=("p2",))
    assert (kept.orphans, kept.reattached) == (1, 1)
    assert (lost.orphans, lost.reattached) == (1, 0)


def test_an_orphan_whose_engine_died_too_is_not_counted(look):
    assert look([{"at": 9.0, "what": "up", "pid": 1}], orphans=[(1.15, "job", "p1")]).orphans == 0
