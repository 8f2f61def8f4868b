"""Accepting a job over /v1: idempotency, waiting, and the picture itself as an answer."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Annotated, Any

from fastapi import Header, Request
from fastapi.responses import Response

from atelier.api.fields import FieldError
from atelier.api.files import bytes_response, harmless
from atelier.api.json import Json
from atelier.api.limits import SubmissionLimits
from atelier.api.native.render import job_json
from atelier.api.preferences import preferences
from atelier.api.problems import Problem, Refused, invalid, problem_of
from atelier.errors import AtelierError
from atelier.jobs.job import TERMINAL
from atelier.media.conversion import Conversion
from atelier.service import JobView, Services, Submission

IdempotencyKey = Annotated[
    str | None,
    Header(
        alias="Idempotency-Key",
        description="The same key and body give the first answer again, never a second job.",
    ),
]
Prefer = Annotated[
    str | None,
    Header(
        description="`wait=30`: answer with the finished job when it is done within 30 seconds."
    ),
]


def checked_key(key: str | None) -> str | None:
    if key is not None and not (0 < len(key) <= 200 and key.isprintable()):
        error = FieldError("Idempotency-Key", "must be 1 to 200 printable characters")
        raise Refused(invalid(error))
    return key


async def submit(
    services: Services, request: Request, submission: Submission, prefix: str
) -> Response:
    """Hand the submission on and answer as the request's headers ask.

    ``prefix`` is where the inputs stand in the body, for naming a wrong one.
    """
    asked = preferences(request.headers.get("prefer"), request.headers.get("accept"))
    wanted = submission.conversion or Conversion()
    if asked.picture_format is not None and wanted.format is None:
        wanted = replace(wanted, format=asked.picture_format)
        submission = replace(submission, conversion=wanted)
    await SubmissionLimits(services.limiter).admit(request, submission.user)
    try:
        view, created = await services.generations.submit(submission)
    except AtelierError as error:
        raise Refused(problem_of(error, prefix=prefix)) from error
    if asked.wait_seconds is not None and view.job.status not in TERMINAL:
        view = await services.generations.wait(view.job.id, asked.wait_seconds)
    ended = view.job.status in TERMINAL
    headers = {"Location": f"/v1/jobs/{view.job.id}"}
    if not created:
        headers["Idempotency-Replayed"] = "true"
    if ended and asked.wait is not None:
        headers["Preference-Applied"] = f"wait={asked.wait}"
    if asked.picture and ended:
        return await _picture(services, view, headers)
    at_once = asked.wait_seconds is not None or view.job.cached_from is not None
    return Json(job_json(view), 200 if ended and at_once else 202, headers)


async def _picture(services: Services, view: JobView, headers: dict[str, str]) -> Response:
    """The bytes of the first picture, or output where none is one; none is a problem that
    tells why."""
    job = view.job
    if job.status != "succeeded" or not view.outputs:
        error: Mapping[str, Any] = job.error or {}
        raise Refused(
            Problem(
                str(error.get("code", "JOB_WITHOUT_OUTPUT")),
                422,
                str(error.get("message") or f"The job was {job.status} and has no picture."),
                error.get("hint") or f"GET /v1/jobs/{job.id} tells the rest.",
                data={"job": job.id},
                retryable=bool(error.get("retryable", False)),
            )
        )
    pictures = (output for output in view.outputs if output.media_type.startswith("image/"))
    output = next(pictures, view.outputs[0])
    content = await services.assets.open(output.id)
    headers |= {"Content-Location": output.url, **harmless(content)}
    return await bytes_response(content, 0, content.info.size, 200, headers)
