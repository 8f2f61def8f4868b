"""Views as /v1 shows them."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from atelier.api.json import encode, iso_time
from atelier.api.process import memory_bytes
from atelier.events import Event
from atelier.presence import ProcessRecord
from atelier.service import (
    AssetView,
    InstanceCheck,
    InstanceView,
    JobPage,
    JobView,
    Stats,
    WorkflowView,
)
from atelier.service.views import OutputView
from atelier.workflows.archive import WorkflowVersion


def job_json(view: JobView) -> dict[str, Any]:
    job = view.job
    return {
        "id": job.id,
        "status": job.status,
        "workflow": job.workflow,
        "workflow_version": job.workflow_version,
        "variant": job.variant,
        "user": job.user,
        "priority": job.priority,
        "progress": {
            "percent": job.progress.percent,
            "step": job.progress.step,
            "steps": job.progress.steps,
            "node": job.progress.node,
        },
        "queue": {"position": view.queue_position, "eta_seconds": view.eta_seconds},
        "message": view.message,
        "inputs": job.inputs,
        "graph": job.graph,
        "seed": job.seed,
        "outputs": [output_json(output) for output in view.outputs],
        "previews": [output_json(preview) for preview in view.previews],
        "output": job.conversion,
        "cached": job.cached_from is not None,
        "cached_from": job.cached_from,
        "error": job.error,
        "attempts": job.attempts,
        "max_attempts": job.max_attempts,
        "instance": job.instance,
        "created_at": iso_time(job.created_at_ms),
        "started_at": iso_time(job.started_at_ms),
        "finished_at": iso_time(job.finished_at_ms),
        "updated_at": iso_time(job.updated_at_ms),
        "timings": job.timings,
        "metadata": job.metadata,
        "webhook": None if view.webhook is None else asdict(view.webhook),
    }


def output_json(output: OutputView) -> dict[str, Any]:
    return {
        "id": output.id,
        "url": output.url,
        "thumbnail_url": output.thumbnail_url,
        "kind": output.kind,
        "media_type": output.media_type,
        "width": output.width,
        "height": output.height,
        "duration_seconds": output.duration_seconds,
        "fps": output.fps,
        "frames": output.frames,
        "size_bytes": output.size_bytes,
        "node": output.node,
        "thumbhash": output.thumbhash,
        "filename": output.filename,
        "source": output.source,
        "text": output.text,
        "available": output.available,
    }


def page_json(page: JobPage, next_cursor: str | None) -> dict[str, Any]:
    # A list is for choosing: graphs, which may be large, come with the single job.
    jobs = [{**job_json(view), "graph": None} for view in page.jobs]
    return {"jobs": jobs, "next_cursor": next_cursor}


def asset_json(asset: AssetView) -> dict[str, Any]:
    document = asdict(asset)
    document["created_at"] = iso_time(document.pop("created_at_ms"))
    return document


def workflow_json(workflow: WorkflowView) -> dict[str, Any]:
    return {
        "name": workflow.name,
        "version": workflow.version,
        "title": workflow.title,
        "help": workflow.help,
        "category": workflow.category,
        "icon": workflow.icon,
        "runnable": workflow.runnable,
        "variant": workflow.variant,
        "missing": workflow.missing,
        "origin": workflow.origin,
        "variants": [asdict(variant) for variant in workflow.variants],
        "example": workflow.example,
        "input_schema": workflow.input_schema,
        "manifest": workflow.manifest,
    }


def workflow_detail_json(
    workflow: WorkflowView, graphs: Mapping[str, Any], checks: Sequence[InstanceCheck]
) -> dict[str, Any]:
    return {
        **workflow_json(workflow),
        "graphs": graphs,
        "checks": [asdict(check) for check in checks],
    }


def version_json(version: WorkflowVersion, current: str | None) -> dict[str, Any]:
    return {
        "version": version.version,
        "number": version.number,
        "origin": version.origin,
        "created_at": iso_time(version.created_at_ms),
        "current": version.version == current,
    }


def instance_json(instance: InstanceView) -> dict[str, Any]:
    return {
        "id": instance.id,
        "url": instance.url,
        "state": instance.state,
        "embedded": instance.embedded,
        "version": instance.version,
        "queue_remaining": instance.queue_remaining,
        "running_jobs": instance.running_jobs,
        "devices": instance.devices,
        "models_count": instance.models_count,
        "nodes_count": instance.nodes_count,
        "last_error": instance.last_error,
        "latency_ms": instance.latency_ms,
        "connections": instance.connections,
        "messages": instance.messages,
        "jobs_served": instance.jobs_served,
        "origin": instance.origin,
        "host": instance.host,
        "wanted": instance.wanted,
        "weight": instance.weight,
        "tags": instance.tags,
        "worker": instance.worker,
        "circuit": instance.circuit,
        "claimed_jobs": instance.claimed_jobs,
        "foreign_prompts": instance.foreign_prompts,
        "busy_until": iso_time(instance.busy_until_ms),
        "warm_models": instance.warm_models,
        "switch_ms": instance.switch_ms,
        "run_ms": instance.run_ms,
        "vram_total_bytes": instance.vram_total_bytes,
        "vram_free_bytes": instance.vram_free_bytes,
        "models": instance.models,
        "capabilities": instance.capabilities,
    }


def worker_json(process: ProcessRecord) -> dict[str, Any]:
    return {
        "id": process.id,
        "role": process.role,
        "host": process.host,
        "pid": process.pid,
        "version": process.version,
        "state": "live" if process.alive else "silent",
        "running_jobs": process.running,
        "started_at": iso_time(process.started_at_ms),
        "seen_at": iso_time(process.seen_at_ms),
    }


def stats_json(stats: Stats) -> dict[str, Any]:
    return {
        "by_status": stats.by_status,
        "by_workflow": stats.by_workflow,
        "by_style": stats.by_style,
        "success_rate": stats.success_rate,
        "failure_rate": stats.failure_rate,
        "queue_length": stats.queue_length,
        "wait_seconds": {"mean": stats.wait_mean_seconds, "p95": stats.wait_p95_seconds},
        "run_seconds": {"mean": stats.run_mean_seconds, "p95": stats.run_p95_seconds},
        "memory_bytes": memory_bytes(),
        "instances": [instance_json(instance) for instance in stats.instances],
    }


def event_json(event: Event) -> bytes:
    return encode(
        {
            "id": event.id,
            "type": event.type,
            "job": event.job,
            "user": event.user,
            "at": iso_time(event.at_ms),
            "data": event.data,
        }
    )
