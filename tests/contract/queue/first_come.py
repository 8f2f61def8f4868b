"""Claims in the order of priority and arrival, for tests in which who goes first is no question."""

from collections.abc import Callable
from dataclasses import dataclass

from sqlalchemy.ext.asyncio import AsyncConnection

from atelier.jobs.job import Claim
from atelier.jobs.queue import LEASE_MS, JobQueue


@dataclass(frozen=True)
class Seat:
    instance: str = "gpu-1"
    able: Callable[[str], bool] = lambda _: True


async def claim_first(
    queue: JobQueue,
    conn: AsyncConnection,
    *,
    worker: str,
    seat: Seat,
    lease_ms: int = LEASE_MS,
) -> Claim | None:
    """The first job that ``seat`` is able to run; one that had better go elsewhere comes last."""
    waiting = sorted(
        await queue.waiting(conn), key=lambda one: (-one.lane.priority, one.oldest_seq)
    )
    for avoided in (False, True):
        for one in waiting:
            if not seat.able(one.lane.requirement):
                continue
            claims = await queue.claim_lane(
                conn,
                worker=worker,
                instance=seat.instance,
                lane=one.lane.id,
                lease_ms=lease_ms,
                avoided=avoided,
            )
            if claims:
                return claims[0]
    return None
