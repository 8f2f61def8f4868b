"""Counts, from records, files and the engines' logs, which promises were kept. Pure."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

from bench.chaos.load import Ledger
from bench.chaos.watching import Interrupted

Spans = Sequence[tuple[float, float]]
TAKEOVER_SECONDS = 5.0  # from the end of a lease until somebody must have the job


@dataclass(slots=True)
class Seen:
    """A prompt as an engine's log tells of it; times in epoch seconds."""

    id: str
    mark: str
    engine: int
    received: float
    posts: int = 1
    starts: int = 0
    ended: float | None = None
    interrupt: float | None = None  # asked for
    interrupted: float | None = None  # obeyed

    @property
    def gone(self) -> float:
        return min(one for one in (self.ended, self.interrupted, math.inf) if one is not None)


@dataclass(slots=True)
class Verdict:
    """Ids, marks or descriptions of what went wrong, and the figures."""

    lost: list[str] = field(default_factory=list)
    surplus: int = 0
    failed: dict[str, int] = field(default_factory=dict)
    published_twice: list[str] = field(default_factory=list)
    stale: list[str] = field(default_factory=list)
    missing_files: list[str] = field(default_factory=list)
    leftover_files: int = 0
    posted_twice: list[str] = field(default_factory=list)
    neighbours: list[str] = field(default_factory=list)
    reruns_unavoidable: int = 0
    reruns: list[str] = field(default_factory=list)
    still_ran: int = 0
    reattached: int = 0
    not_reattached: list[str] = field(default_factory=list)
    resumed: list[float] = field(default_factory=list)  # where somebody could, see Chances
    resumed_others: list[float] = field(default_factory=list)
    cancel_seconds: list[float] = field(default_factory=list)  # running: until the engine is asked
    statuses: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Chances:
    """When engines, workers (by number) and the database were away, in spans of epoch seconds."""

    engine_faults: Mapping[int, Spans]
    worker_faults: Sequence[Spans]
    database_faults: Spans
    lease_seconds: float

    def to_resume(self, job: Interrupted, prompt: Seen | None) -> bool:
        """Whether somebody could resume ``job`` as soon as its lease had run out."""
        due = job.at + self.lease_seconds
        whole, decisive = (job.at, due + TAKEOVER_SECONDS), (due, due + TAKEOVER_SECONDS)
        if prompt is None or _touches(self.engine_faults.get(prompt.engine, ()), whole):
            return False
        if _touches(self.database_faults, whole):
            return False
        return any(not _touches(spans, decisive) for spans in self.worker_faults)


def prompts_of(logs: Iterable[tuple[int, Iterable[Mapping[str, Any]]]]) -> dict[str, Seen]:
    """Every prompt in the logs, by id."""
    found: dict[str, Seen] = {}
    for engine, lines in logs:
        for line in lines:
            id, at = line["prompt"], line["at"]
            seen = found.get(id)
            match line["event"]:
                case "received" if seen is None:
                    found[id] = Seen(id, line["mark"], engine, at)
                case "received":
                    seen.posts += 1
                case "started":
                    seen.starts += 1
                case "ended":
                    seen.ended = at
                case "interrupt":
                    seen.interrupt = seen.interrupt or at
                case "interrupted" | "deleted":
                    seen.interrupted = at
    return found


def judge(
    *,
    ledger: Ledger,
    records: Sequence[Mapping[str, Any]],
    assets: Sequence[Mapping[str, Any]],
    ends: Mapping[str, Mapping[str, Any]],
    files: frozenset[str],
    prompts: Mapping[str, Seen],
    interrupted: Sequence[Interrupted],
    engine_faults: Mapping[int, Spans],
    worker_faults: Sequence[Spans],
    pool_faults: Spans,
    lease_seconds: float,
) -> Verdict:
    """``records``: {id, status, lease, prompt_id, outputs, error}; ``assets``: {job_id, key,
    thumbnail_key}; ``ends`` as they were first seen; ``files`` are the keys in the store.

    A takeover counts against its limit where, around the end of the lease, a worker was there to
    do it and neither the database nor the job's engine was away.
    """
    verdict = Verdict()
    by_id = {str(row["id"]): row for row in records}
    _judge_records(verdict, ledger, by_id, assets, ends, files)
    _judge_prompts(verdict, ledger, prompts, engine_faults)
    chances = Chances(engine_faults, worker_faults, pool_faults, lease_seconds)
    _judge_takeovers(verdict, ledger, prompts, interrupted, chances)
    return verdict


def _judge_records(
    verdict: Verdict,
    ledger: Ledger,
    by_id: Mapping[str, Mapping[str, Any]],
    assets: Sequence[Mapping[str, Any]],
    ends: Mapping[str, Mapping[str, Any]],
    files: frozenset[str],
) -> None:
    accepted = set(ledger.accepted.values())
    verdict.surplus = len(by_id.keys() - accepted) + len(ledger.split)
    kept: dict[str, list[Mapping[str, Any]]] = {}
    for asset in assets:
        kept.setdefault(str(asset["job_id"]), []).append(asset)
    for id in accepted:
        row = by_id.get(id)
        if row is None or row["status"] not in ("succeeded", "failed", "cancelled"):
            verdict.lost.append(f"{id} is {'absent' if row is None else row['status']}")
            continue
        verdict.statuses[row["status"]] = verdict.statuses.get(row["status"], 0) + 1
        if row["status"] == "failed":
            code = (row["error"] or {}).get("code", "?")
            verdict.failed[code] = verdict.failed.get(code, 0) + 1
        outputs = (row["outputs"] or ()) if row["status"] == "succeeded" else ()
        expected = 1 if row["status"] == "succeeded" else 0
        if len(outputs) != expected or len(kept.get(id, ())) != expected:
            verdict.published_twice.append(
                f"{id}: {len(outputs)} outputs, {len(kept.get(id, ()))} assets, {row['status']}"
            )
        for output in outputs:
            lease = output["key"].rpartition("/")[2].partition("-")[0]
            if lease != str(row["lease"]) or not output["filename"].startswith(row["prompt_id"]):
                verdict.stale.append(f"{id}: {output['key']} under lease {row['lease']}")
            if output["key"] not in files:
                verdict.missing_files.append(output["key"])
        first = ends.get(id)
        if first is not None and any(first[name] != row[name] for name in first):
            verdict.stale.append(f"{id} was {dict(first)}, then {row['status']} {row['lease']}")
    named = {asset[name] for asset in assets for name in ("key", "thumbnail_key")}
    verdict.leftover_files = len(files - named)


def _judge_prompts(
    verdict: Verdict,
    ledger: Ledger,
    prompts: Mapping[str, Seen],
    engine_faults: Mapping[int, Spans],
) -> None:
    by_mark: dict[str, list[Seen]] = {}
    for prompt in prompts.values():
        by_mark.setdefault(prompt.mark, []).append(prompt)
        if prompt.posts > 1:
            verdict.posted_twice.append(f"{prompt.id} {prompt.posts} times")
        asked = ledger.cancels.get(prompt.mark)
        if prompt.interrupt is not None or prompt.interrupted is not None:
            if asked is None:
                verdict.neighbours.append(f"{prompt.id} of {prompt.mark}")
            elif prompt.interrupt is not None:
                verdict.cancel_seconds.append(prompt.interrupt - asked)
    for runs in by_mark.values():
        runs.sort(key=lambda one: one.received)
        for before, after in pairwise(runs):
            span = (before.received, after.received)
            if _touches(engine_faults.get(before.engine, ()), span):
                verdict.reruns_unavoidable += 1
            else:
                verdict.reruns.append(
                    f"{before.mark}: {before.id} at {before.engine} from {span[0]:.1f}"
                    f" (ended {before.ended}), again after {span[1] - span[0]:.1f} s"
                )


def _judge_takeovers(
    verdict: Verdict,
    ledger: Ledger,
    prompts: Mapping[str, Seen],
    interrupted: Sequence[Interrupted],
    chances: Chances,
) -> None:
    latest: dict[str, list[Seen]] = {}
    for prompt in prompts.values():
        latest.setdefault(prompt.mark, []).append(prompt)
    for one in interrupted:
        if one.ended_first:
            continue
        prompt = prompts.get(one.prompt)
        until = one.resumed_at or math.inf
        if one.resumed_at is not None:
            calm = chances.to_resume(one, prompt)
            chosen = verdict.resumed if calm else verdict.resumed_others
            chosen.append(one.resumed_at - one.at)
        if prompt is None or not prompt.received <= one.at < prompt.gone:
            continue
        if prompt.mark in ledger.cancels or prompt.mark not in ledger.accepted:
            continue
        others = [p for p in latest[prompt.mark] if p.received > one.at]
        end = others[0].received if others else min(prompt.gone, until)
        # From its arrival on: an engine that was killed before the worker was had lost it already.
        if _touches(chances.engine_faults.get(prompt.engine, ()), (prompt.received, end)):
            continue
        verdict.still_ran += 1
        if others:
            verdict.not_reattached.append(f"{one.job}: {prompt.id}, then {others[0].id}")
        else:
            verdict.reattached += 1


def _touches(spans: Spans, span: tuple[float, float]) -> bool:
    return any(begins <= span[1] and span[0] <= ends for begins, ends in spans)
