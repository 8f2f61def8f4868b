"""The present state as events: what a listener begins with that can't resume."""

from collections.abc import Awaitable, Callable

from atelier.events import event as events
from atelier.jobs.job import QUEUED, RUNNING, TERMINAL
from atelier.service.views import JobPage, JobView

# Who was cut off for longer isn't told what ended meanwhile; clocks differ by less than that.
CUT_OFF_MS, CLOCKS_MS = 3_600_000, 2_000
MOST = 100


def snapshot_of(view: JobView) -> events.Event:
    job = view.job
    return events.snapshot(
        job.id,
        job.user,
        status=job.status,
        progress={
            "percent": job.progress.percent,
            "step": job.progress.step,
            "steps": job.progress.steps,
            "node": job.progress.node,
        },
        position=view.queue_position,
        eta_seconds=view.eta_seconds,
        message=view.message,
        outputs=[output.as_dict() for output in view.outputs],
        error=job.error,
        attempts=job.attempts,
        instance=job.instance,
    )


async def present(
    list_jobs: Callable[..., Awaitable[JobPage]],
    user: str,
    last_event_id: str | None,
    *,
    now_ms: int,
) -> list[JobView]:
    """Jobs of ``user`` that wait or run, and what has ended since an id, oldest first.

    The id may be another process's: of it only the time counts.
    """
    views = list((await list_jobs(user=user, status=(QUEUED, RUNNING), limit=MOST)).jobs)
    since = events.parse_id(last_event_id)
    if since is not None and since[0] > now_ms - CUT_OFF_MS:
        ended = (await list_jobs(user=user, status=TERMINAL, limit=MOST)).jobs
        from_ms = since[0] - CLOCKS_MS
        views += [view for view in ended if (view.job.finished_at_ms or 0) >= from_ms]
    return sorted(views, key=lambda view: view.job.id)
