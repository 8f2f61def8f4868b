"""The verdict as a table of figures."""

import math
from collections.abc import Sequence

from bench.chaos.judging import TAKEOVER_SECONDS, Verdict
from bench.chaos.load import Ledger
from bench.chaos.plan import Options
from bench.figure import Figure

LEAST_REATTACHED = 0.99


def figures(verdict: Verdict, ledger: Ledger, options: Options) -> list[Figure]:
    """Whether each promise was kept; times are only judged where nothing else was away."""
    rows = [
        _none("jobs accepted and lost", verdict.lost),
        Figure("jobs inserted twice", str(verdict.surplus), "0", met=verdict.surplus == 0),
        _none("jobs published twice", verdict.published_twice),
        _none("stale writes accepted", verdict.stale),
        _none("results whose file is missing", verdict.missing_files),
        _none("prompts posted twice under one id", verdict.posted_twice),
        _none("prompts interrupted that nobody cancelled", verdict.neighbours),
        Figure("jobs by status", _counts(verdict.statuses)),
        Figure("failed, by code", _counts(verdict.failed), "none", met=not verdict.failed),
        Figure("run again, the engine was hit", str(verdict.reruns_unavoidable)),
        Figure("run again, the engine was well", str(len(verdict.reruns))),
    ]
    share = verdict.reattached / verdict.still_ran if verdict.still_ran else 1.0
    rows.append(
        Figure(
            "reattached of what still ran when its worker died",
            f"{verdict.reattached} of {verdict.still_ran}",
            f"at least {LEAST_REATTACHED:.0%}",
            met=share >= LEAST_REATTACHED,
        )
    )
    limit = options.lease_seconds + TAKEOVER_SECONDS
    p99 = percentile(verdict.resumed, 0.99)
    rows += [
        Figure(
            "resumed, a worker was there to do it",
            _times(verdict.resumed),
            f"p99 at most {limit:g} s",
            met=p99 is None or p99 <= limit,
        ),
        Figure("resumed, all workers, engine or database away too", _times(verdict.resumed_others)),
        Figure("cancel of a queued job answered", _times(ledger.queued_cancel_seconds)),
        Figure("cancel of a running job at its engine", _times(verdict.cancel_seconds)),
        Figure("submissions refused", str(len(ledger.refused)), "0", met=not ledger.refused),
        Figure(
            "answers 503 (without Retry-After)",
            f"{ledger.away} ({ledger.without_retry_after})",
            "(0)",
            met=ledger.without_retry_after == 0,
        ),
        Figure("files that no job names (swept later)", str(verdict.leftover_files)),
    ]
    return rows


def details(verdict: Verdict, ledger: Ledger) -> list[str]:
    """A few examples of each thing that went wrong."""
    lists = {
        "lost": verdict.lost,
        "published twice": verdict.published_twice,
        "stale": verdict.stale,
        "missing": verdict.missing_files,
        "posted twice": verdict.posted_twice,
        "neighbour": verdict.neighbours,
        "run again": verdict.reruns,
        "not reattached": verdict.not_reattached,
        "refused": ledger.refused,
    }
    return [f"{name}: {one}" for name, found in lists.items() for one in found[:5]]


def percentile(values: Sequence[float], share: float) -> float | None:
    """The least value that ``share`` of all don't exceed; None of none."""
    if not values:
        return None
    return sorted(values)[max(0, math.ceil(share * len(values)) - 1)]


def _none(name: str, found: Sequence[str]) -> Figure:
    return Figure(name, str(len(found)), "0", met=not found)


def _counts(counts: dict[str, int]) -> str:
    return ", ".join(f"{count} {name}" for name, count in sorted(counts.items())) or "none"


def _times(seconds: Sequence[float]) -> str:
    p50, p99 = percentile(seconds, 0.5), percentile(seconds, 0.99)
    if p50 is None or p99 is None:
        return "none seen"
    return f"p50 {p50:.2f} s, p99 {p99:.2f} s of {len(seconds)}"
