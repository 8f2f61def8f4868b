"""The policy over time: bounds that hold for any arrivals, and nearness to the best possible."""

import importlib
from functools import partial
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from atelier.jobs.policy import Tuning

# Short times, so that the bound of a few minutes' arrivals is one that can be broken.
TIGHT = Tuning(patience_ms=5_000, least_work=1, most_work=2, least_switch_ms=1_000, lag_ms=5_000)
ROOT = Path(__file__).parents[3]


@pytest.fixture(scope="module")
def bench():
    """The simulator, which is no part of the package."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(ROOT))
        yield lambda name: importlib.import_module(f"bench.simulation.{name}")


@settings(max_examples=25, deadline=None)
@given(
    st.integers(0, 10_000),
    st.integers(1, 4),
    st.integers(1, 6),
    st.floats(0.3, 2.5),
    st.sampled_from([1.0, 8.0]),
    st.sampled_from([0.0, 0.2]),
    st.sampled_from([0.5, 1.0]),
    st.booleans(),
)
@example(1, 1, 2, 1.3, 1.0, 0.0, 1.0, False)
def test_no_job_waits_beyond_the_bound(
    bench, seed, instances, models, load, bursts, urgent, capable, dies
):
    wanted = bench("load").Setting(
        instances, models, load, hours=0.1, run_s=(1, 3), switch_s=(1, 3),
        bursts=bursts, urgent_share=urgent,
        capable_share=capable, deaths=[bench("load").Death(0, 1e5, 1e5)] if dies else [],
    )  # fmt: skip
    made = bench("load").make(wanted, seed)
    outcome = bench("machine").simulate(made, partial(bench("ours").Ours, tuning=TIGHT))
    assert sorted(done.job.seq for done in outcome.done) == list(range(len(made.arrivals)))
    if outcome.done:
        assert max(bench("bounds").shares_of_bound(made, outcome, TIGHT)) <= 1


@pytest.mark.parametrize("seed", range(3))
def test_near_the_optimum_of_small_batches(bench, seed):
    load = bench("load")
    made = load.make(load.Setting(2, 3, 0.5, hours=1.0, spread=0.0), seed)
    some = [load.Arrival(n, 0.0, one.lane, one.run_ms) for n, one in enumerate(made.arrivals[:7])]
    batch = load.Load(
        made.setting, some, made.switch_ms, made.estimated_run_ms, made.switch_ms, made.holds
    )
    outcome = bench("machine").simulate(batch, bench("ours").Ours)
    total = sum(done.flow_ms for done in outcome.done)
    runs = [(one.lane.model, one.run_ms) for one in some]
    best = bench("bounds").optimum_ms(runs, batch.switch_ms, 2)
    assert bench("bounds").least_mean_flow_ms(batch) * len(some) <= best <= total <= 2 * best
    last = max(done.ended_ms for done in outcome.done)
    assert bench("bounds").least_makespan_ms(batch) <= last


def test_optimum_waits_for_the_loaded_model_rather_than_switch(bench):
    jobs = [("a", 1.0), ("a", 1.0), ("b", 1.0)]
    # One instance: a (10 + 1), a (12), b (12 + 10 + 1).
    assert bench("bounds").optimum_ms(jobs, {"a": 10.0, "b": 10.0}, 1) == 11 + 12 + 23
    # Two: b beside.
    assert bench("bounds").optimum_ms(jobs, {"a": 10.0, "b": 10.0}, 2) == 11 + 12 + 11
