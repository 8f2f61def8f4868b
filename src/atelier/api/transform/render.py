"""Jobs as tasks, in this dialect's words."""

from collections.abc import Mapping
from typing import Any

from atelier.api.addresses import absolute
from atelier.api.json import encode, iso_time
from atelier.api.problems import Problem
from atelier.api.process import memory_bytes
from atelier.api.updates import STATUS_WORDS, update_of
from atelier.events import Event
from atelier.service import InstanceView, JobView, Stats

# What a field of this dialect is called in the workflow, and the other way round.
FIELDS: Mapping[str, str] = {
    "image": "image_url",
    "style": "style_type",
    "prompt": "custom_prompt",
    "strength": "strength",
}


def task_json(view: JobView, base: str) -> dict[str, Any]:
    job = view.job
    urls = [absolute(output.url, base) for output in view.outputs]
    error = job.error if job.status == "failed" else None
    return {
        "task_id": job.id,
        "user_id": job.user,
        "status": STATUS_WORDS[job.status],
        "progress": 100 if job.status == "succeeded" else job.progress.percent,
        "output_image_url": urls[0] if urls else None,
        "output_image_urls": urls,
        "error_message": _error_message(error),
        "error_code": error["code"] if error else None,
        "style_type": job.inputs.get("style"),
        "message": view.message,
        "created_at": iso_time(job.created_at_ms),
        "updated_at": iso_time(job.updated_at_ms),
        "queue_position": view.queue_position,
        "eta_seconds": view.eta_seconds,
    }


def _error_message(error: Mapping[str, Any] | None) -> str | None:
    """The sentence and what to do, as one text: this dialect has no second field."""
    if error is None:
        return None
    return " ".join(part for part in (error.get("message"), error.get("hint")) if part)


def accepted_entry(url: str, view: JobView) -> dict[str, Any]:
    return {
        "image_url": url,
        "task_id": view.job.id,
        "status": STATUS_WORDS[view.job.status],
        "created_at": iso_time(view.job.created_at_ms),
        "queue_position": view.queue_position,
        "eta_seconds": view.eta_seconds,
    }


def refused_entry(url: str, problem: Problem) -> dict[str, Any]:
    return {
        "image_url": url,
        "task_id": None,
        "status": "failed",
        "error_message": " ".join(part for part in (problem.detail, problem.hint) if part),
        "error_code": problem.code,
    }


def event_json(event: Event, base: str) -> bytes:
    """An event as a task's update, with the addresses of its pictures when it is completed."""
    update = update_of(event)
    if update["status"] == "completed":
        urls = [absolute(output["url"], base) for output in event.data.get("outputs", ())]
        update |= {"output_image_url": urls[0] if urls else None, "output_image_urls": urls}
    if update["status"] == "failed" or event.type == "retrying":
        update["error_message"] = _error_message(event.data.get("error"))
    return encode(update)


def stats_json(stats: Stats) -> dict[str, Any]:
    memory = memory_bytes()
    by_status = {word: stats.by_status.get(status, 0) for status, word in STATUS_WORDS.items()}
    return {
        "total": sum(by_status.values()),
        "by_status": by_status,
        "by_style": stats.by_style,
        "success_rate": stats.success_rate,
        "failure_rate": stats.failure_rate,
        "queue_length": stats.queue_length,
        "average_wait_seconds": stats.wait_mean_seconds,
        "p95_wait_seconds": stats.wait_p95_seconds,
        "average_run_seconds": stats.run_mean_seconds,
        "p95_run_seconds": stats.run_p95_seconds,
        "memory_in_use_bytes": memory,
        "memory_in_use_mb": None if memory is None else round(memory / 2**20, 1),
        "instances": [_instance_json(instance) for instance in stats.instances],
    }


def _instance_json(instance: InstanceView) -> dict[str, Any]:
    return {
        "id": instance.id,
        "url": instance.url,
        "state": instance.state,
        "queue_remaining": instance.queue_remaining,
        "running_tasks": instance.running_jobs,
        "last_error": instance.last_error,
    }
