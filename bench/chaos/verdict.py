"""What was promised against what is found, from records, files and journals. Pure."""

import itertools
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

TERMINAL = ("succeeded", "failed", "cancelled")


@dataclass(frozen=True, slots=True)
class Record:
    """A job as the database has it in the end; ``made_by``: the prompt that each output is of."""

    id: str
    status: str
    lease: int
    prompt: str | None
    error: str | None
    made_by: tuple[str, ...]
    leases_of_outputs: tuple[int, ...]  # of the claim that stored each
    published: tuple[int, ...]  # such leases of all outputs that were ever published for it


@dataclass(slots=True)
class Prompt:
    """One prompt at an engine, as its journal has it; times in seconds of the day."""

    id: str
    engine: str
    received: float
    receipts: int = 1
    began: float | None = None
    ended: float | None = None
    how: str | None = None  # success, interrupted, deleted


@dataclass(slots=True)
class Journals:
    prompts: dict[str, Prompt] = field(default_factory=dict)
    by_mark: dict[str, list[Prompt]] = field(default_factory=lambda: defaultdict(list))
    ups: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    interrupts: list[tuple[float, str | None, str | None]] = field(default_factory=list)

    def read(self, engine: str, lines: Iterable[Mapping[str, Any]]) -> None:
        for line in lines:
            at, what, id = line["at"], line["what"], line.get("prompt", "")
            prompt = self.prompts.get(id)
            match what:
                case "up":
                    self.ups[engine].append(at)
                case "received" if prompt is not None:
                    prompt.receipts += 1
                case "received":
                    prompt = self.prompts[id] = Prompt(id, engine, at)
                    self.by_mark[line["mark"]].append(prompt)
                case "interrupt":
                    self.interrupts.append((at, line["asked"], line["hit"]))
                case "began" if prompt is not None:
                    prompt.began = at
                case "ended" | "deleted" if prompt is not None:
                    prompt.ended, prompt.how = at, line.get("how", "deleted")

    def restarted(self, engine: str, after: float, before: float) -> bool:
        return any(after < up < before for up in self.ups[engine])


@dataclass(slots=True)
class Count:
    """Of the promises, what was broken; and what is worth knowing besides."""

    lost: list[str] = field(default_factory=list)
    twice: list[str] = field(default_factory=list)
    stale: list[str] = field(default_factory=list)
    received_twice: list[str] = field(default_factory=list)
    neighbours: list[str] = field(default_factory=list)
    statuses: Counter[str] = field(default_factory=Counter)
    errors: Counter[str] = field(default_factory=Counter)
    reruns: Counter[str] = field(default_factory=Counter)
    rerun_jobs: list[str] = field(default_factory=list)
    orphans: int = 0  # prompts that lived on when their worker was killed
    reattached: int = 0


def judge(
    accepted: Mapping[int, str],
    records: Mapping[str, Record],
    journals: Journals,
    *,
    spooled: Collection[str],
    cancelled: Collection[str],
) -> Count:
    """``spooled``: jobs whose results waited for the store, to be published under a later claim;
    ``cancelled``: jobs that somebody has asked to be cancelled.
    """
    count = Count()
    for number, id in accepted.items():
        record = records.get(id)
        if record is None or record.status not in TERMINAL:
            count.lost.append(f"{id} {'absent' if record is None else record.status}")
            continue
        count.statuses[record.status] += 1
        if record.error and record.status == "failed":
            count.errors[record.error] += 1
        prompts = journals.by_mark.get(f"chaos/{number}", [])
        if len(set(record.published)) > 1 or len(record.published) > 1:
            count.twice.append(f"{id} under leases {record.published}")
        if record.status == "succeeded":
            if len(record.made_by) != 1 or len(record.published) != 1:
                count.lost.append(f"{id} succeeded with {len(record.published)} outputs")
            elif not set(record.made_by) <= {prompt.id for prompt in prompts}:
                count.stale.append(f"{id} has the picture of another job")
            elif id not in spooled and (
                record.made_by != (record.prompt,) or record.leases_of_outputs != (record.lease,)
            ):
                count.stale.append(
                    f"{id}: {record.made_by} under {record.leases_of_outputs},"
                    f" recorded {record.prompt} under {record.lease}"
                )
        count.received_twice += [prompt.id for prompt in prompts if prompt.receipts > 1]
        for prompt in prompts:
            if prompt.how in ("interrupted", "deleted") and id not in cancelled:
                count.neighbours.append(f"{id}: prompt {prompt.id} {prompt.how}")
    return count


def split_reruns(
    count: Count,
    accepted: Mapping[int, str],
    journals: Journals,
    *,
    engine_harms: Sequence[tuple[str, float, float]],
    orphans: Sequence[tuple[float, str, str]],
) -> None:
    """Why prompts ran again, and how many of dead workers' prompts were reattached.

    ``engine_harms``: engine, from, to, of what cuts it off for longer than a worker is patient.
    ``orphans``: when a worker was killed, the job and the prompt that it held.
    """
    reran: dict[str, str] = {}
    for number, id in accepted.items():
        prompts = sorted(journals.by_mark.get(f"chaos/{number}", []), key=lambda p: p.received)
        for first, second in itertools.pairwise(prompts):
            died = journals.restarted(first.engine, first.received, second.received)
            away = any(
                engine == first.engine and since < second.received and until > first.received
                for engine, since, until in engine_harms
            )
            if died:
                reason = "its engine died"
            elif away:
                reason = "its engine was out of reach"
            elif first.how in ("interrupted", "deleted"):
                reason = "it was stopped at the engine"
            else:
                reason = "at a living engine"
                reran[first.id] = id
                count.rerun_jobs.append(f"{id}: {first} then {second}")
            count.reruns[reason] += 1
    for killed_at, _job, prompt_id in orphans:
        prompt = journals.prompts.get(prompt_id)
        if (
            prompt is None
            or prompt.received > killed_at
            or prompt.how in ("interrupted", "deleted")
        ):
            continue  # it never got there, or was cancelled
        if any(
            since < killed_at + 30 and until > killed_at
            for e, since, until in engine_harms
            if e == prompt.engine
        ):
            continue
        if journals.restarted(prompt.engine, prompt.received, killed_at + 30):
            continue
        count.orphans += 1
        count.reattached += prompt_id not in reran
