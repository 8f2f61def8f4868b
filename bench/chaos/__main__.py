"""``python -m bench.chaos``: one run, its table, and 1 as exit code where a promise is broken."""

import argparse
import asyncio
import signal
import sys
from collections import Counter
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

from bench.chaos.run import Orders, Outcome, run
from bench.figure import Figure, at_least, at_most, skipped, table
from bench.samples import percentile

QUICK = ("kill_worker", "kill_engine", "kill_api", "kill_worker_for_long")


def figures(outcome: Outcome, *, timed: bool = True) -> list[Figure]:
    """``timed``: times count as promises too, which on a busy machine say little."""
    count, load = outcome.count, outcome.load
    found = [
        Figure("jobs accepted", str(len(load.accepted))),
        Figure("jobs refused for good", str(len(load.refused)), "0", met=not load.refused),
        Figure("faults", str(len(outcome.harms))),
        Figure("ended as", _counted(count.statuses)),
        Figure("failed by", _counted(count.errors) or "none"),
        _none("lost", count.lost),
        _none("published twice", count.twice),
        _none("stale writes", count.stale),
        _none("one prompt id received twice", count.received_twice),
        _none("repeated key, other job", [""] * load.ids_changed),
        _none("neighbours hit by a cancel", count.neighbours),
        Figure("prompts run again", _counted(count.reruns) or "none"),
    ]
    if count.orphans:
        share = 100 * count.reattached / count.orphans
        found.append(
            at_least(f"reattached, of {count.orphans} left by killed workers", share, 99, "%")
        )
    seconds = outcome.resumes.seconds
    if seconds:
        p50, p99 = percentile(seconds, 50), percentile(seconds, 99)
        found.append(
            Figure(f"resumed after a worker's death ({len(seconds)}), p50", f"{p50:.1f} s")
        )
        name = "resumed after a worker's death, p99"
        found.append(at_most(name, p99, 20, "s") if timed else Figure(name, f"{p99:.1f} s"))
    found.append(_none("not resumed within 90 s", [""] * outcome.resumes.never))
    for name, values in (
        ("cancel of a queued job", outcome.queued_cancels_ms),
        ("cancel of a running job, until ComfyUI has it", outcome.running_cancels_ms),
    ):
        if not values:
            found.append(skipped(name, "none was met in that state"))
            continue
        # Some came while a process was down: the tail tells of the faults.
        p50, p99 = percentile(values, 50), percentile(values, 99)
        found.append(Figure(f"{name} ({len(values)}), p50, p99", f"{p50:.0f} ms, {p99:.0f} ms"))
    found.append(Figure("took", f"{outcome.seconds:.0f} s"))
    return found


def _none(name: str, broken: list[str]) -> Figure:
    return Figure(name, str(len(broken)), "0", met=not broken)


def _counted(counter: Counter[str]) -> str:
    return ", ".join(f"{count} {name}" for name, count in counter.most_common())


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m bench.chaos",
        description="Kill and cut everything under load, and count what was promised.",
        epilog="example: python -m bench.chaos --database postgresql://postgres@127.0.0.1/postgres",
    )
    parser.add_argument("--database", default="sqlite://", help="a server, or sqlite://")
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--jobs", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--per-second", type=float, default=25.0, help="jobs submitted")
    parser.add_argument("--lease", type=float, default=15.0, help="ATELIER_LEASE_SECONDS")
    parser.add_argument("--case", action="append", default=[], help="only these, in turn")
    parser.add_argument("--keep", type=Path, metavar="DIR", help="copy logs and journals here")
    parser.add_argument("--quick", action="store_true", help="4 kills, 40 jobs, short leases")
    chosen = parser.parse_args()
    orders = Orders(
        chosen.database,
        kills=4 if chosen.quick else chosen.kills,
        jobs=40 if chosen.quick else chosen.jobs,
        seed=chosen.seed,
        per_second=8.0 if chosen.quick else chosen.per_second,
        engines=2 if chosen.quick else 3,
        lease_seconds=2.0 if chosen.quick else chosen.lease,
        cases=chosen.case or (QUICK if chosen.quick else ()),
        keep=chosen.keep,
    )
    outcome = asyncio.run(_stoppable(run(orders)))
    found = figures(outcome, timed=not chosen.quick)
    print(f"\n{table(found)}")
    count = outcome.count
    for broken in (count.lost, count.twice, count.stale, count.neighbours, count.rerun_jobs):
        for line in broken[:10]:
            print(f"  {line}")
    for line in outcome.load.refused[:5]:
        print(f"  refused: {line}")
    sys.exit(any(figure.met is False for figure in found))


async def _stoppable(work: Coroutine[Any, Any, Outcome]) -> Outcome:
    """What is started ends with us, whichever way we are told to stop."""
    task = asyncio.create_task(work)
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, task.cancel)
    return await task


main()
