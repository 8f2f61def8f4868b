"""How long the jobs of a killed worker stay with nobody."""

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

from bench.chaos.databases import ChaosDatabase
from bench.chaos.fleet import Member

LOOK_SECONDS = 0.1
LONGEST_SECONDS = 90.0


@dataclass(frozen=True, slots=True)
class Held:
    job: str
    lease: int
    prompt: str
    instance: str


@dataclass(slots=True)
class Resumes:
    """``seconds``: of each job, from the kill to the next claim or end. ``orphans``: at kills."""

    database: ChaosDatabase
    seconds: list[float] = field(default_factory=list)
    orphans: list[tuple[float, Held]] = field(default_factory=list)
    never: int = 0
    _following: set[asyncio.Task[None]] = field(default_factory=set)

    async def held_by(self, worker: Member) -> Sequence[Held]:
        """The jobs that run under the worker's name."""
        rows = await self.database.rows(
            "SELECT id, lease, prompt_id, instance FROM jobs WHERE status = 'running'"
            " AND worker IN (SELECT id FROM processes WHERE pid = :pid)",
            pid=worker.pid or 0,
        )
        return [Held(*row) for row in rows]

    def follow(self, held: Sequence[Held], killed_at: float) -> None:
        """See from now on what becomes of ``held``."""
        if held:
            self.orphans += [(killed_at, one) for one in held]
            task = asyncio.create_task(self._follow(held, killed_at))
            self._following.add(task)
            task.add_done_callback(self._following.discard)

    async def settle(self) -> None:
        await asyncio.gather(*self._following)

    async def _follow(self, held: Sequence[Held], killed_at: float) -> None:
        waiting = {one.job: one.lease for one in held}
        names = {f"id{number}": job for number, job in enumerate(waiting)}
        places = ", ".join(f":{name}" for name in names)
        while waiting and time.time() - killed_at < LONGEST_SECONDS:
            rows = await self.database.rows(
                f"SELECT id, lease, status FROM jobs WHERE id IN ({places})", **names
            )
            now = time.time()
            for id, lease, status in rows:
                # Queued again is not resumed: nobody has it.
                resumed = lease != waiting.get(id, lease) or status not in ("running", "queued")
                if id in waiting and resumed:
                    del waiting[id]
                    self.seconds.append(now - killed_at)
            await asyncio.sleep(LOOK_SECONDS)
        self.never += len(waiting)
