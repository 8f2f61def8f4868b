"""The judge finds each kind of broken promise, and nothing where all was kept."""

from dataclasses import replace
from typing import Any

from bench.chaos.judging import Seen, Verdict, judge
from bench.chaos.load import Ledger
from bench.chaos.watching import Interrupted

RECORD = {
    "id": "j1",
    "status": "succeeded",
    "lease": 2,
    "prompt_id": "p1",
    "outputs": [{"key": "outputs/j1/j1/2-a.png", "filename": "p1_2.png"}],
    "error": None,
}
ASSET = {"job_id": "j1", "key": "outputs/j1/j1/2-a.png", "thumbnail_key": None}
PROMPT = Seen("p1", "m1", engine=0, received=10.0, ended=20.0)
STRUCK = Interrupted("j1", 1, "p1", at=12.0, all_workers=False, resumed_at=25.0)


def judged(**changes: Any) -> Verdict:
    given: dict[str, Any] = {
        "ledger": Ledger(accepted={"m1": "j1"}),
        "records": [RECORD],
        "assets": [ASSET],
        "ends": {},
        "files": frozenset({ASSET["key"]}),
        "prompts": {"p1": PROMPT},
        "interrupted": [STRUCK],
        "engine_faults": {},
        "worker_faults": [[(12.0, 40.0)], []],
        "pool_faults": [],
        "lease_seconds": 15.0,
    }
    return judge(**(given | changes))


def test_a_job_that_was_resumed_and_reattached_keeps_all_promises() -> None:
    verdict = judged()
    assert verdict.resumed == [13.0]
    assert (verdict.still_ran, verdict.reattached) == (1, 1)
    assert verdict == Verdict(statuses={"succeeded": 1}, resumed=[13.0], still_ran=1, reattached=1)


def test_a_job_that_is_absent_or_has_not_ended_is_lost() -> None:
    assert judged(records=[]).lost
    assert judged(records=[RECORD | {"status": "running"}]).lost


def test_a_second_job_of_one_key_is_surplus() -> None:
    assert judged(records=[RECORD, RECORD | {"id": "j2"}]).surplus == 1


def test_two_sets_of_assets_are_published_twice() -> None:
    assert judged(assets=[ASSET, ASSET | {"key": "outputs/j1/j1/1-b.png"}]).published_twice


def test_outputs_of_another_lease_or_prompt_are_stale() -> None:
    assert judged(records=[RECORD | {"lease": 3}]).stale
    assert judged(records=[RECORD | {"prompt_id": "p0"}]).stale


def test_a_record_that_changes_after_its_end_is_stale() -> None:
    assert judged(ends={"j1": {"id": "j1", "lease": 1, "status": "failed"}}).stale


def test_a_result_without_its_file_is_missing() -> None:
    assert judged(files=frozenset()).missing_files


def test_a_run_is_excused_only_by_a_fault_of_its_engine() -> None:
    prompts = {"p0": replace(PROMPT, id="p0", received=5.0), "p1": PROMPT}
    assert len(judged(prompts=prompts).reruns) == 1
    excused = judged(prompts=prompts, engine_faults={0: [(7.0, 8.0)]})
    assert (excused.reruns, excused.reruns_unavoidable) == ([], 1)


def test_a_prompt_that_still_ran_and_ran_again_was_not_reattached() -> None:
    again = Seen("p2", "m1", engine=1, received=26.0, ended=28.0)
    prompts = {"p1": PROMPT, "p2": again}
    assert judged(prompts=prompts).not_reattached
    # Its engine was killed after it had come: nothing was left to reattach to.
    excused = judged(prompts=prompts, engine_faults={0: [(10.5, 11.0)]})
    assert (excused.still_ran, excused.not_reattached) == (0, [])


def test_an_interrupt_that_nobody_asked_for_hit_a_neighbour() -> None:
    hit = replace(PROMPT, interrupt=15.0, interrupted=15.1)
    assert judged(prompts={"p1": hit}).neighbours
    asked = Ledger(accepted={"m1": "j1"}, cancels={"m1": 14.5})
    verdict = judged(prompts={"p1": hit}, ledger=asked)
    assert (verdict.neighbours, verdict.cancel_seconds) == ([], [0.5])


def test_a_takeover_counts_only_where_somebody_could() -> None:
    assert judged().resumed == [13.0]
    for changes in (
        {"worker_faults": [[(12.0, 40.0)], [(28.0, 30.0)]]},
        {"pool_faults": [(13.0, 14.0)]},
        {"engine_faults": {0: [(13.0, 14.0)]}},
    ):
        verdict = judged(**changes)
        assert (verdict.resumed, verdict.resumed_others) == ([], [13.0]), changes
