"""Jobs as generations, in this dialect's words."""

from collections.abc import Mapping, Sequence
from typing import Any

from atelier.api.json import iso_time
from atelier.service import JobView, ModelView

DIALECT = "studio"
STATUS_WORDS: Mapping[str, str] = {
    "queued": "queued",
    "running": "processing",
    "succeeded": "finished",
    "failed": "failed",
    "cancelled": "cancelled",
}
_MODEL_TYPES: Mapping[str, str] = {"checkpoints": "checkpoint", "diffusion_models": "unet"}


def accepted_json(view: JobView) -> dict[str, Any]:
    return {
        "job_id": view.job.id,
        # Also when the pictures are there already: callers poll, and know no other way.
        "status": "queued",
        "seed": view.job.seed,
        "cached": view.job.cached_from is not None,
    }


def generation_json(view: JobView) -> dict[str, Any]:
    job = view.job
    urls = output_paths(view)
    error = job.error if job.status == "failed" else None
    return {
        "job_id": job.id,
        "status": STATUS_WORDS[job.status],
        "progress": 100 if job.status == "succeeded" else job.progress.percent,
        "image_url": urls[0] if urls else None,
        "image_urls": urls,
        "error": _error_message(error),
        "error_code": error["code"] if error else None,
        "message": view.message,
        "seed": job.seed,
        "cached": job.cached_from is not None,
        "queue_position": view.queue_position,
        "eta_seconds": view.eta_seconds,
    }


def record_json(view: JobView) -> dict[str, Any]:
    """A job of any dialect as an entry of the history."""
    job = view.job
    # What was asked for here is kept also where the workflow has no input for it.
    asked = job.metadata if job.dialect == DIALECT else {}
    return {
        "id": job.id,
        "prompt": _first(asked.get("prompt"), _text(job.inputs.get("prompt"))),
        "workflow": job.workflow,
        "model": _first(_text(job.inputs.get("model")), asked.get("model"), job.model),
        "aspect_ratio": _first(asked.get("aspect_ratio"), _text(job.inputs.get("aspect_ratio"))),
        "batch_size": _first(asked.get("batch_size"), _number(job.inputs.get("batch_size")), 1),
        "seed": job.seed,
        "status": STATUS_WORDS[job.status],
        "output_path": ",".join(output_paths(view)) or None,
        "created_at": iso_time(job.created_at_ms),
        "updated_at": iso_time(job.updated_at_ms),
    }


def output_paths(view: JobView) -> list[str]:
    return [f"/outputs/{output.name}" for output in view.outputs]


def models_json(models: Sequence[ModelView]) -> dict[str, Any]:
    described = [
        {
            "name": model.name,
            "type": _MODEL_TYPES[model.folder],
            "instances": list(model.instances),
        }
        for model in models
    ]
    return {
        "checkpoints": [model.name for model in models if model.folder == "checkpoints"],
        "unet": [model.name for model in models if model.folder == "diffusion_models"],
        "models": described,
    }


def _error_message(error: Mapping[str, Any] | None) -> str | None:
    """The sentence and what to do, as one text: this dialect has no second field."""
    if error is None:
        return None
    return " ".join(part for part in (error.get("message"), error.get("hint")) if part)


def _first(*values: Any) -> Any:
    return next((value for value in values if value is not None), None)


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) else None


def _number(value: Any) -> int | None:
    return value if isinstance(value, int) else None
