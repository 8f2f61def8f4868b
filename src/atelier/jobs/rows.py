"""From rows to jobs."""

from typing import Any

from sqlalchemy import Row, Select, select

from atelier.jobs.job import Job, Progress
from atelier.jobs.tables import job_details, jobs

_JOB = jobs.c
_DETAIL = job_details.c

COLUMNS = (
    _JOB.id,
    _JOB.user_id.label("user"),
    _JOB.workflow,
    _DETAIL.workflow_version,
    _JOB.variant,
    _JOB.requirement,
    _JOB.model,
    _JOB.status,
    _JOB.precedence,
    _JOB.percent,
    _JOB.step,
    _JOB.steps,
    _JOB.node,
    _DETAIL.inputs,
    _DETAIL.graph,
    _DETAIL.seed,
    _DETAIL.outputs,
    _DETAIL.error,
    _JOB.attempts,
    _JOB.max_attempts,
    _JOB.instance,
    _JOB.worker,
    _JOB.prompt_id,
    _JOB.lease,
    _JOB.cancel_requested,
    _JOB.created_at_ms,
    _JOB.started_at_ms,
    _JOB.submitted_at_ms,
    _JOB.finished_at_ms,
    _JOB.updated_at_ms,
    _JOB.deleted_at_ms,
    _JOB.run_after_ms,
    _JOB.estimate_ms,
    _DETAIL.timings,
    _DETAIL.metadata,
    _DETAIL.dialect,
    _DETAIL.fingerprint,
    _DETAIL.previews,
    _DETAIL.conversion,
    _DETAIL.cache,
    _DETAIL.cached_from,
    _JOB.batch,
    _JOB.label,
    _DETAIL.webhook_url,
)
_TRANSLATED = ("precedence", "percent", "step", "steps", "node")
_WITH_DEFAULT = ("outputs", "previews", "timings", "cache")
_SAME_NAME = tuple(
    column.name for column in COLUMNS if column.name not in _TRANSLATED + _WITH_DEFAULT
)


def select_jobs() -> Select[Any]:
    return select(*COLUMNS).join_from(jobs, job_details, _JOB.id == _DETAIL.job_id)


def job_of(row: Row[Any], **changes: Any) -> Job:
    """The job of a row of ``select_jobs``, with ``changes`` that have been written since."""
    values = row._mapping
    fields: dict[str, Any] = {name: values[name] for name in _SAME_NAME}
    fields["priority"] = -values["precedence"]
    fields["progress"] = Progress(
        values["percent"], values["step"], values["steps"], values["node"]
    )
    fields["outputs"] = tuple(values["outputs"] or ())
    fields["previews"] = tuple(values["previews"] or ())
    fields["timings"] = values["timings"] or {}
    fields["cache"] = bool(values["cache"])
    return Job(**(fields | changes))
