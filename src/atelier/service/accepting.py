"""Taking jobs into the queue, with all that has to be kept with them: one commit for many."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from atelier.database import Database
from atelier.jobs.job import Job, NewJob
from atelier.jobs.queue import JobQueue, QueueFull
from atelier.media.catalog import Catalog
from atelier.service.notices import Notices
from atelier.service.planning import Plan
from atelier.service.recall import answer
from atelier.service.recently import Recently
from atelier.service.views import WebhookView
from atelier.service.workflows import Workflows
from atelier.workflows.library import Workflow


@dataclass(frozen=True, slots=True)
class Offer:
    """A job to be queued; ``workflow``, where it has a name, is kept in its version.

    ``hashes`` are the SHA-256 of assets that the job brought along.
    """

    new: NewJob
    plan: Plan | None
    workflow: Workflow | None
    hashes: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Accepted:
    """``created`` is False where the idempotency key was used before, for this job."""

    job: Job
    created: bool
    position: int | None
    webhook: WebhookView | None


class Accepting:
    """``requirement_body`` gives what is kept under the hash of a requirement."""

    def __init__(
        self,
        *,
        database: Database,
        queue: JobQueue,
        catalog: Catalog,
        workflows: Workflows,
        notices: Notices,
        requirement_body: Callable[[str], Mapping[str, Any]],
    ) -> None:
        self._database = database
        self._queue = queue
        self._catalog = catalog
        self._workflows = workflows
        self._notices = notices
        self._requirement_body = requirement_body
        self._kept = Recently[str]()  # requirements that are in the database
        self._queued = database.grouped(self._queue_all, durable=False)

    async def accept(self, offer: Offer) -> Accepted:
        """Queue the job, or answer it from the cache.

        Committed, but not yet safe from a power loss: ``Database.flush`` waits for that.
        Raises QueueFull.
        """
        recalled = await self._recalled(offer) if offer.new.cache else None
        if recalled is not None:
            return recalled
        put = offer.new.requirement not in self._kept
        accepted = await self._queued(offer)
        if put:
            self._kept.add(offer.new.requirement)
        if offer.workflow is not None:
            self._workflows.remember_kept(offer.workflow)
        return accepted

    async def _recalled(self, offer: Offer) -> Accepted | None:
        ids: dict[str, str] = {}

        async def work(conn: Any) -> Accepted | None:
            answered = await answer(
                conn,
                self._queue,
                self._catalog,
                offer.new,
                offer.plan,
                hashes=offer.hashes,
                ids=ids,
            )
            if answered is None:
                return None
            webhooks = await self._notices.views(conn, [answered[0]])
            return Accepted(*answered, None, webhooks.get(answered[0].id))

        return await self._database.run(work, durable=False)

    async def _queue_all(self, conn: Any, offers: Sequence[Offer]) -> list[Accepted | Exception]:
        needed = {offer.new.requirement for offer in offers}
        for hash in sorted(hash for hash in needed if hash not in self._kept):
            await self._queue.put_requirement(conn, hash, self._requirement_body(hash))
        named = {(one.name, one.version): one for offer in offers if (one := offer.workflow)}
        for key in sorted(named):
            await self._workflows.keep(conn, named[key])
        answers = await self._queue.insert_many(conn, [offer.new for offer in offers])
        jobs = [answer[0] for answer in answers if not isinstance(answer, QueueFull)]
        webhooks = await self._notices.views(conn, jobs)
        positions = await self._queue.positions(conn, [job.id for job in jobs])
        return [
            answer
            if isinstance(answer, QueueFull)
            else Accepted(*answer, positions.get(answer[0].id), webhooks.get(answer[0].id))
            for answer in answers
        ]
