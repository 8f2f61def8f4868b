"""/v1/jobs: submit, look, cancel, retry, delete."""

from typing import Annotated

from fastapi import APIRouter, Header, Path, Query, Request
from fastapi.responses import Response

from atelier.api.documents import (
    KEY_REUSED,
    LIMITED,
    PICTURE,
    PROBLEMS,
    PROBLEMS_OF_ONE,
    PROBLEMS_OF_STATE,
    SSE,
)
from atelier.api.json import Json
from atelier.api.limits import SubmissionLimits
from atelier.api.native.models import JobModel, JobPageModel, JobStatus, SubmitJob
from atelier.api.native.render import event_json, job_json, page_json
from atelier.api.native.submit import IdempotencyKey, Prefer, checked_key, submit
from atelier.api.paging import from_cursor, to_cursor
from atelier.api.streams import EventStream, OpenStreams, encode_sse, resume_id
from atelier.jobs.job import TERMINAL
from atelier.service import Services, Submission

JobId = Annotated[str, Path(description="The job's id.", max_length=100)]


def jobs_router(services: Services, streams: OpenStreams) -> APIRouter:
    router = APIRouter(prefix="/v1/jobs", tags=["jobs"])
    generations = services.generations
    limits = SubmissionLimits(services.limiter)

    @router.post(
        "",
        status_code=202,
        response_model=JobModel,
        responses={
            **PROBLEMS_OF_ONE,
            **KEY_REUSED,
            200: {
                "model": JobModel,
                "content": PICTURE,
                "description": "Finished in the time of `Prefer`.",
            },
        },
        summary="Submit a job",
        openapi_extra=LIMITED,
    )
    async def submit_job(
        request: Request,
        body: SubmitJob,
        idempotency_key: IdempotencyKey = None,
        prefer: Prefer = None,
    ) -> Response:
        """Answers as soon as the job is safely recorded; then look, wait or listen.

        With `Accept: image/*` the answer is the picture itself, with `Accept: image/webp` in
        that format.
        """
        submission = Submission(
            workflow=body.workflow,
            inputs=body.inputs,
            user=body.user,
            priority=body.priority,
            metadata=body.metadata,
            max_attempts=body.max_attempts,
            dialect="native",
            idempotency_key=checked_key(idempotency_key),
            conversion=body.output.conversion() if body.output else None,
            cache=body.cache,
            webhook_url=body.webhook_url,
        )
        return await submit(services, request, submission, "inputs.")

    @router.get(
        "", response_model=JobPageModel, responses=PROBLEMS, summary="List jobs, newest first"
    )
    async def list_jobs(
        user: Annotated[str | None, Query(max_length=200)] = None,
        status: Annotated[JobStatus | None, Query()] = None,
        workflow: Annotated[str | None, Query(max_length=200)] = None,
        q: Annotated[str | None, Query(max_length=200, description="Text in the inputs.")] = None,
        limit: Annotated[int, Query(ge=1, le=200)] = 50,
        cursor: Annotated[str | None, Query(description="`next_cursor` of a page.")] = None,
    ) -> Response:
        page = await generations.list(
            user=user,
            status=() if status is None else (status,),
            workflow=workflow,
            q=q,
            limit=limit,
            cursor=from_cursor(cursor),
        )
        return Json(page_json(page, to_cursor(page.next_cursor)))

    @router.get(
        "/{job_id}", response_model=JobModel, responses=PROBLEMS_OF_ONE, summary="Look at a job"
    )
    async def get_job(job_id: JobId) -> Response:
        return Json(job_json(await generations.get(job_id)))

    @router.post(
        "/{job_id}/cancel",
        response_model=JobModel,
        responses=PROBLEMS_OF_STATE,
        summary="Cancel a job",
    )
    async def cancel_job(job_id: JobId) -> Response:
        """A waiting job is cancelled at once; a running one as soon as its instance obeys."""
        return Json(job_json(await generations.cancel(job_id)))

    @router.post(
        "/{job_id}/retry",
        status_code=202,
        response_model=JobModel,
        responses=PROBLEMS_OF_STATE,
        summary="Run a job again",
        openapi_extra=LIMITED,
    )
    async def retry_job(request: Request, job_id: JobId) -> Response:
        """Puts a failed or cancelled job back into the queue, with all its attempts."""
        await limits.admit(request, (await generations.get(job_id)).job.user)
        return Json(job_json(await generations.retry(job_id)), 202)

    @router.delete(
        "/{job_id}",
        status_code=204,
        responses=PROBLEMS_OF_STATE,
        summary="Delete a job",
        response_class=Response,
    )
    async def delete_job(job_id: JobId) -> Response:
        """It disappears from all lists; its pictures go with the next sweep."""
        await generations.delete(job_id)
        return Response(status_code=204)

    @router.get(
        "/{job_id}/events",
        response_class=Response,
        responses={**PROBLEMS_OF_ONE, **SSE},
        summary="Listen to a job",
    )
    async def job_events(
        job_id: JobId,
        previews: Annotated[bool, Query(description="Pictures of the work so far, too.")] = False,
        nodes: Annotated[bool, Query(description="What each node does, too.")] = False,
        last_event_id: Annotated[str | None, Header(alias="Last-Event-ID")] = None,
        resume_after: Annotated[
            str | None, Query(alias="last_event_id", description="Where no header can be set.")
        ] = None,
    ) -> Response:
        """Server-sent events until the job has ended; see docs/api/events.md for the types."""
        view = await generations.get(job_id)
        last, told_the_end = resume_id(last_event_id, resume_after)
        if told_the_end and view.job.status in TERMINAL:
            # The one answer that makes a browser stop connecting again.
            return Response(status_code=204)
        return EventStream(
            streams,
            lambda: generations.follow(
                job=job_id, last_event_id=last, previews=previews, nodes=nodes
            ),
            lambda event: encode_sse(event, event_json(event)),
            form="sse:native",
            job=job_id,
            generations=generations,
        )

    return router
