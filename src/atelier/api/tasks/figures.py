"""Queues, machines and the state of the service, in this dialect's words."""

from collections.abc import Mapping, Sequence
from typing import Any

from atelier.api.process import memory_bytes
from atelier.api.updates import STATUS_WORDS
from atelier.service import (
    Health,
    InstanceQueueView,
    InstanceView,
    QueuedPrompt,
    QueuesView,
    Stats,
    SystemView,
)


def queues_json(queues: QueuesView) -> dict[str, Any]:
    return {
        "queue": {
            "pending": queues.queued,
            "processing": len(queues.running),
            "pending_tasks": queues.waiting,
            "processing_tasks": queues.running,
        },
        "instances": [_queue_json(one) for one in queues.instances],
        "running": sum(len(one.running) for one in queues.instances),
        "pending": sum(len(one.pending) for one in queues.instances),
    }


def _queue_json(queue: InstanceQueueView) -> dict[str, Any]:
    known = queue.error is None
    return {
        "id": queue.id,
        "url": queue.url,
        "state": queue.state,
        "running": len(queue.running) if known else None,
        "pending": len(queue.pending) if known else None,
        "running_prompts": _prompts(queue.running),
        "pending_prompts": _prompts(queue.pending),
        "error": queue.error,
    }


def _prompts(prompts: Sequence[QueuedPrompt]) -> list[dict[str, Any]]:
    return [{"prompt_id": one.prompt_id, "task_id": one.job} for one in prompts]


def systems_json(systems: Sequence[SystemView]) -> dict[str, Any]:
    return {"instances": [_system_json(one) for one in systems]}


def _system_json(told: SystemView) -> dict[str, Any]:
    return {
        "id": told.id,
        "url": told.url,
        "state": told.state,
        "version": told.system.get("comfyui_version"),
        "ram": {"total": told.system.get("ram_total"), "free": told.system.get("ram_free")},
        "vram": {
            "total": _sum(told.devices, "vram_total"),
            "free": _sum(told.devices, "vram_free"),
        },
        "devices": told.devices,
        "system": told.system,
        "error": told.error,
    }


def _sum(devices: Sequence[Mapping[str, Any]], name: str) -> int | None:
    """Over all devices that tell it; None where none does."""
    known = [device[name] for device in devices if isinstance(device.get(name), int | float)]
    return int(sum(known)) if known else None


def interrupted_json(ids: Sequence[str]) -> dict[str, Any]:
    message = "Nothing was being generated."
    if ids:
        message = f"{len(ids)} {'task was' if len(ids) == 1 else 'tasks were'} told to stop."
    return {"interrupted": ids, "count": len(ids), "message": message}


def health_json(health: Health) -> dict[str, Any]:
    return {"status": health.status, "message": health.message}


def status_json(
    health: Health, stats: Stats | None, *, environment: str, version: str
) -> dict[str, Any]:
    """``stats`` is None while the database is away."""
    by_status = stats.by_status if stats else {}
    return {
        **health_json(health),
        "environment": environment,
        "version": version,
        "database": health.database,
        "redis": health.redis,
        "storage": health.storage,
        "queue_length": health.waiting or 0,
        "tasks": {word: by_status.get(status, 0) for status, word in STATUS_WORDS.items()},
        "success_rate": stats.success_rate if stats else None,
        "failure_rate": stats.failure_rate if stats else None,
        "average_wait_seconds": stats.wait_mean_seconds if stats else None,
        "p95_wait_seconds": stats.wait_p95_seconds if stats else None,
        "average_run_seconds": stats.run_mean_seconds if stats else None,
        "p95_run_seconds": stats.run_p95_seconds if stats else None,
        "memory_in_use_bytes": memory_bytes(),
        "workers": health.workers,
        "instances": [_instance_json(one) for one in health.instances],
    }


def _instance_json(instance: InstanceView) -> dict[str, Any]:
    return {
        "id": instance.id,
        "url": instance.url,
        "state": instance.state,
        "version": instance.version,
        "queue_remaining": instance.queue_remaining,
        "running_tasks": instance.running_jobs,
        "last_error": instance.last_error,
        "latency_ms": instance.latency_ms,
        "connections": instance.connections,
        "messages": instance.messages,
        "tasks_served": instance.jobs_served,
    }
