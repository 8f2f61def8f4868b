"""Jobs as tasks, in this dialect's words."""

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from fastapi.responses import Response

from atelier.api.addresses import absolute
from atelier.api.json import Json, encode, iso_time
from atelier.api.problems import Problem
from atelier.api.updates import STATUS_WORDS, update_of
from atelier.events import Event
from atelier.jobs.job import Job
from atelier.service import JobView, OutputView

STATUSES: Mapping[str, str] = {word: status for status, word in STATUS_WORDS.items()}
_IMAGES = ("image", "animation")
# What a field of a submission is called in this dialect.
FIELDS: Mapping[str, str] = {"user": "user_id"}


def error_response(problem: Problem, path: str) -> Response:
    """``{"error": {code, message, hint, ...}, "detail": message}``."""
    error: dict[str, Any] = {
        "code": problem.code,
        "message": problem.detail,
        "hint": problem.hint,
        "retryable": problem.retryable,
    }
    if problem.errors:
        error["fields"] = [one.as_dict() for one in problem.errors]
    if problem.data:
        error["data"] = dict(problem.data)
    return Json({"error": error, "detail": problem.detail}, problem.status)


def accepted_json(view: JobView) -> dict[str, Any]:
    job = view.job
    return {
        "task_id": job.id,
        "status": STATUS_WORDS[job.status],
        "workflow": job.workflow,
        "priority": job.priority,
        "max_retries": job.max_attempts - 1,
        "queue_position": view.queue_position,
        "eta_seconds": view.eta_seconds,
        "message": view.message,
        "created_at": iso_time(job.created_at_ms),
    }


def task_json(view: JobView, base: str) -> dict[str, Any]:
    job = view.job
    done = job.status == "succeeded"
    return {
        "task_id": job.id,
        "status": STATUS_WORDS[job.status],
        "workflow": job.workflow,
        "user_id": job.user,
        "priority": job.priority,
        "progress": 100 if done else job.progress.percent,
        "progress_details": {
            "step": job.progress.step,
            "steps": job.progress.steps,
            "node": job.progress.node,
        },
        "result": _result(view, base) if done else None,
        "error": job.error,
        "retries": max(job.attempts - 1, 0),
        "max_retries": job.max_attempts - 1,
        "message": view.message,
        "queue_position": view.queue_position,
        "eta_seconds": view.eta_seconds,
        "created_at": iso_time(job.created_at_ms),
        "started_at": iso_time(job.started_at_ms),
        "completed_at": iso_time(job.finished_at_ms),
        "updated_at": iso_time(job.updated_at_ms),
        "timings": _timings(job),
        "metadata": job.metadata,
        "webhook": None if view.webhook is None else asdict(view.webhook),
    }


def _timings(job: Job) -> dict[str, int]:
    timings = dict(job.timings)
    if job.finished_at_ms is not None:
        timings["total_ms"] = max(job.finished_at_ms - job.created_at_ms, 0)
    return timings


def _result(view: JobView, base: str) -> dict[str, Any]:
    job = view.job
    files = [(output, _file(output, base)) for output in view.outputs]
    images = [file for output, file in files if output.kind in _IMAGES]
    return {
        "image_urls": [image["url"] for image in images],
        "images": images,
        "files": [file for output, file in files if output.kind not in _IMAGES],
        "metadata": {
            "workflow": job.workflow,
            "workflow_version": job.workflow_version,
            "variant": job.variant,
            "seed": job.seed,
            "instance": job.instance,
            "cached": job.cached_from is not None,
        },
    }


def _file(output: OutputView, base: str) -> dict[str, Any]:
    return {
        "url": absolute(output.url, base),
        "thumbnail_url": output.thumbnail_url and absolute(output.thumbnail_url, base),
        "filename": output.filename,
        "kind": output.kind,
        "media_type": output.media_type,
        "width": output.width,
        "height": output.height,
        "size_bytes": output.size_bytes,
        "node": output.node,
        "text": output.text,
    }


def event_json(event: Event, base: str) -> bytes:
    """An event as a task's update, with the addresses of its pictures when it is completed."""
    update = update_of(event)
    if update["status"] == "completed":
        images = [one for one in event.data.get("outputs", ()) if one["kind"] in _IMAGES]
        update["result"] = {"image_urls": [absolute(image["url"], base) for image in images]}
    if event.data.get("error"):
        update["error"] = event.data["error"]
    return encode(update)
