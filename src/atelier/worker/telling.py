"""Tells listeners how far a job is."""

from atelier.comfy.messages import Executed, Executing, Preview
from atelier.errors import AtelierError
from atelier.events import event as events
from atelier.jobs.job import CANCELLED, QUEUED, Job, Progress
from atelier.worker.context import Context
from atelier.worker.progress import ACCEPTED

PREVIEW_SECONDS = 0.2  # at most five previews a second reach listeners


class Teller:
    """Publishes a job's events; ``progress`` never falls, also where another worker began it."""

    def __init__(self, context: Context, job: Job) -> None:
        self._bus = context.bus
        self._clock = context.clock
        self._job = job
        self._preview_at = 0.0
        self.progress = Progress(percent=ACCEPTED)
        if job.progress.percent > ACCEPTED:
            self.progress = job.progress

    def tell(self, event: events.Event) -> None:
        self._bus.publish(event)

    def tell_setback(
        self, status: str, error: AtelierError, *, attempts: int, run_after_ms: int
    ) -> None:
        """Tell what became of a job whose attempt went wrong."""
        job, record = self._job, error.as_dict()
        if status == CANCELLED:
            self.tell(events.cancelled(job.id, job.user))
        elif status == QUEUED:
            self.tell(
                events.retrying(
                    job.id, job.user, error=record, attempt=attempts, run_after_ms=run_after_ms
                )
            )
        else:
            self.tell(events.failed(job.id, job.user, error=record, attempts=attempts))

    def step(self, percent: int) -> None:
        """Tell that the job has come to ``percent``, between nodes."""
        self.advance(Progress(percent=percent))

    def advance(self, progress: Progress | None) -> None:
        """Tell ``progress`` unless it is None, or less than before."""
        if progress is None or progress.percent < self.progress.percent:
            return
        self.progress = progress
        self.tell(
            events.progress(
                self._job.id,
                self._job.user,
                percent=progress.percent,
                step=progress.step,
                steps=progress.steps,
                node=progress.node,
            )
        )

    def tell_node(self, message: object) -> None:
        """Tell which node runs, or has ended with something to show; to nobody if none listens."""
        if not self._bus.may_be_heard:
            return
        job = self._job
        match message:
            case Executing(node=str() as node, display_node=shown):
                self.tell(events.executing(job.id, job.user, node=shown or node))
            case Executed(node=node, display_node=shown, output=output) if output:
                self.tell(events.executed(job.id, job.user, node=shown or node, output=output))

    def show(self, preview: Preview) -> None:
        """Tell a preview, unless the one before is a moment old."""
        now = self._clock()
        if self._bus.may_be_heard and now - self._preview_at >= PREVIEW_SECONDS:
            self._preview_at = now
            self.tell(
                events.preview(
                    self._job.id,
                    self._job.user,
                    image=preview.image,
                    media_type=preview.media_type,
                    node=preview.node,
                )
            )
