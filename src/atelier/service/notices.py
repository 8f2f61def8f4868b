"""Tells the end of a job to the address that its submission named."""

from collections.abc import Callable, Collection, Mapping
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlsplit

import structlog
import uuid_utils

from atelier.errors import InvalidRequest, MediaRejected
from atelier.jobs.job import TERMINAL, Job
from atelier.service.views import JobView, OutputView, WebhookView
from atelier.webhooks.outbox import Message, Outbox

log = structlog.get_logger(__name__)

LONGEST_URL = 2048

Render = Callable[[JobView], Mapping[str, Any]]


class WebhookRefused(InvalidRequest):
    """Nothing may be sent to this address; ``data["field"]`` is ``webhook_url``."""

    code = "WEBHOOK_URL_REFUSED"
    default_hint = (
        "Use a public http or https address. An operator can open others with ATELIER_FETCH_ALLOW."
    )

    def __init__(self, problem: str, *, hint: str | None = None) -> None:
        super().__init__(f"webhook_url {problem}", hint=hint, field="webhook_url")


class Notices:
    """``check`` raises MediaRejected for an address that can't be sent to.

    ``renderers`` has, by dialect, how a job looks to whoever submitted it; ``default`` is for
    the dialects that have none of their own.
    """

    def __init__(
        self,
        *,
        outbox: Outbox,
        check: Callable[[str], object],
        renderers: Mapping[str, Render],
        default: Render,
    ) -> None:
        self._outbox = outbox
        self._check = check
        self._renderers = renderers
        self._default = default

    def checked(self, url: str) -> str:
        """``url`` without blanks around it. Raises WebhookRefused.

        Where a name points to is looked at when something is sent.
        """
        address = url.strip()
        if len(address) > LONGEST_URL:
            raise WebhookRefused(f"may have at most {LONGEST_URL} characters.", hint="")
        try:
            self._check(address)
        except MediaRejected as error:
            raise WebhookRefused(f"can't be used: {error.message}", hint=error.hint) from error
        return address

    async def ended(self, conn: Any, job: Job) -> None:
        """Put the end of ``job`` into the outbox, in the transaction that ends it.

        What is told is fixed here: however late it arrives, it is the state of this moment.
        """
        url = job.webhook_url
        if url is None:
            return
        at = datetime.fromtimestamp((job.finished_at_ms or 0) / 1000, UTC)
        event = f"job.{job.status}"
        body = {
            "type": event,
            "timestamp": at.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
            "data": self._data(job),
        }
        await self._outbox.add(
            conn,
            Message(
                id=str(uuid_utils.uuid7()),
                job=job.id,
                url=url,
                host=urlsplit(url).netloc.rpartition("@")[2].lower()[:255],
                event=event,
                body=body,
            ),
        )

    def _data(self, job: Job) -> Mapping[str, Any]:
        view = JobView(
            job=job,
            outputs=tuple(OutputView.of(output) for output in job.outputs),
            previews=tuple(OutputView.of(preview) for preview in job.previews),
        )
        try:
            return self._renderers.get(job.dialect, self._default)(view)
        except Exception:
            # A job must be able to end, whatever is wrong with how it is told.
            log.exception("a job can't be rendered for its webhook", job=job.id)
            return {"id": job.id, "status": job.status}

    async def views(self, conn: Any, jobs: Collection[Job]) -> Mapping[str, WebhookView]:
        """By job, how far its webhook is; jobs that have none are absent."""
        having = {job.id: job for job in jobs if job.webhook_url is not None}
        ended = [job.id for job in having.values() if job.status in TERMINAL]
        told = await self._outbox.told(conn, ended)
        found = {}
        for id, job in having.items():
            state = told.get(id)
            found[id] = WebhookView(
                url=job.webhook_url or "",
                status=state.status if state else "waiting",
                attempts=state.attempts if state else 0,
                last_error=state.last_error if state else None,
            )
        return found
