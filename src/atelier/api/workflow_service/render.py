"""Jobs as ComfyUI would tell them: history, queue, files by filename, subfolder and type."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from atelier.api.addresses import absolute
from atelier.api.workflow_service.errors import run_error_json
from atelier.jobs.job import TERMINAL
from atelier.service import FileName, InstanceView, JobView, OutputView
from atelier.service.files import name_of

STATUS_WORDS: Final[Mapping[str, str]] = {
    "queued": "queued",
    "running": "running",
    "succeeded": "success",
    "failed": "error",
    "cancelled": "interrupted",
}


def submitted_json(view: JobView) -> dict[str, Any]:
    return {
        "prompt_id": view.job.id,
        "client_id": view.job.user,
        "number": view.job.created_at_ms,
        "status": STATUS_WORDS[view.job.status],
        "queue_position": view.queue_position,
        "message": view.message,
    }


def file_json(name: FileName) -> dict[str, str]:
    return {"filename": name.filename, "subfolder": name.subfolder, "type": name.type}


def image_json(job: str, output: OutputView, base: str) -> dict[str, Any]:
    return {
        **file_json(name_of(job, output)),
        "node": output.node,
        "url": absolute(output.url, base),
        "thumbnail_url": output.thumbnail_url and absolute(output.thumbnail_url, base),
        "media_type": output.media_type,
        "width": output.width,
        "height": output.height,
        "size_bytes": output.size_bytes,
    }


def images_json(job: str, outputs: Iterable[OutputView], base: str) -> list[dict[str, Any]]:
    return [image_json(job, one, base) for one in outputs if one.media_type.startswith("image/")]


def outputs_json(
    job: str, outputs: Iterable[OutputView], texts: Mapping[str, str]
) -> dict[str, dict[str, list[Any]]]:
    """``{node: {"images": [{filename, subfolder, type}], "text": [...]}}``.

    ``texts`` is what is written in those that are text, by asset id.
    """
    found: dict[str, dict[str, list[Any]]] = {}
    for output in outputs:
        key = (output.source or {}).get("key", "images")
        entry = texts[output.id] if output.id in texts else file_json(name_of(job, output))
        found.setdefault(output.node or "", {}).setdefault(key, []).append(entry)
    return found


def told_output(job: str, output: Mapping[str, Any]) -> dict[str, Any]:
    """What a node tells that it has made, its files under the names that we know them by."""
    return {
        key: [_told_entry(job, entry) for entry in entries]
        if isinstance(entries, list | tuple)
        else entries
        for key, entries in output.items()
    }


def _told_entry(job: str, entry: Any) -> Any:
    if not (isinstance(entry, Mapping) and isinstance(entry.get("filename"), str)):
        return entry
    subfolder = "/".join(filter(None, (job, entry.get("subfolder"))))
    return {**entry, "subfolder": subfolder, "type": entry.get("type", "output")}


def history_json(
    view: JobView, graph: Mapping[str, Any], texts: Mapping[str, str]
) -> dict[str, Any]:
    """``{prompt_id: entry}`` of a run that has ended, else ``{}``."""
    job = view.job
    if job.status not in TERMINAL:
        return {}
    outputs = outputs_json(job.id, (*view.outputs, *view.previews), texts)
    entry = {
        "prompt": _prompt(view, graph, list(outputs), {}),
        "outputs": outputs,
        "status": {
            "status_str": "success" if job.status == "succeeded" else "error",
            "completed": job.status == "succeeded",
            "messages": _messages(view, graph),
        },
        "meta": {
            node: {
                "node_id": node,
                "display_node": node,
                "parent_node": None,
                "real_node_id": node,
            }
            for node in outputs
        },
    }
    return {job.id: entry}


def _messages(view: JobView, graph: Mapping[str, Any]) -> list[tuple[str, dict[str, Any]]]:
    job = view.job
    told: list[tuple[str, dict[str, Any]]] = []
    if job.started_at_ms is not None:
        start = {"prompt_id": job.id, "timestamp": job.started_at_ms}
        told = [("execution_start", start), ("execution_cached", {"nodes": [], **start})]
    end = {"prompt_id": job.id, "timestamp": job.finished_at_ms}
    if job.status == "succeeded":
        return [*told, ("execution_success", end)]
    node = job.progress.node
    if job.status == "cancelled":
        stopped: dict[str, Any] = {
            "node_id": node,
            "node_type": _class_of(graph, node),
            "executed": [],
        }
        return [*told, ("execution_interrupted", {**stopped, **end})]
    return [*told, ("execution_error", {**execution_error(job.error or {}, graph), **end})]


def execution_error(error: Mapping[str, Any], graph: Mapping[str, Any]) -> dict[str, Any]:
    """The data of ComfyUI's message of that name, with ``code`` and ``details`` of ours."""
    told = run_error_json(error)
    data = error.get("data") or {}
    node = error.get("node")
    return {
        "node_id": node,
        "node_type": data.get("node_type") or _class_of(graph, node),
        "executed": [],
        "exception_message": data.get("exception_message") or told["message"],
        "exception_type": data.get("exception_type") or told["details"]["reason"],
        "traceback": list(data.get("traceback") or ()),
        "current_inputs": {},
        "current_outputs": [],
        **told,
    }


def queue_entries(
    entries: Sequence[tuple[JobView, Mapping[str, Any]]],
) -> list[list[Any]]:
    """Jobs and their graphs as ComfyUI lists what it has: five values each."""
    return [
        _prompt(
            view,
            graph,
            [],
            {
                "queue_position": view.queue_position,
                "eta_seconds": view.eta_seconds,
                "percent": view.job.progress.percent,
                "node": view.job.progress.node,
                "instance": view.job.instance,
                "message": view.message,
            },
        )
        for view, graph in entries
    ]


def instance_json(instance: InstanceView) -> dict[str, Any]:
    error = None
    if instance.state == "down":
        error = {
            "code": "CONNECTION_ERROR",
            "message": instance.last_error or f"{instance.url} has not answered yet.",
            "details": {"reason": "INSTANCE_UNREACHABLE", "hint": None, "retryable": True},
        }
    return {
        "id": instance.id,
        "state": instance.state,
        "running": list(instance.running_jobs),
        "queue_remaining": instance.queue_remaining,
        "error": error,
    }


def _prompt(
    view: JobView, graph: Mapping[str, Any], delivering: list[str], extra: Mapping[str, Any]
) -> list[Any]:
    job = view.job
    extra_data = {"client_id": job.user, **extra}
    return [job.created_at_ms, job.id, graph, extra_data, delivering]


def _class_of(graph: Mapping[str, Any], node: str | None) -> str | None:
    found = graph.get(node or "")
    return found.get("class_type") if isinstance(found, Mapping) else None
