"""A job's present state as an event: what a listener begins with that can't resume."""

from atelier.events import event as events
from atelier.service.views import JobView


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
