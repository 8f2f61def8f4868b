"""The spans of a run: below the request's, whichever process took it."""

from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from typing import Any

from atelier.jobs.job import Job
from atelier.telemetry import traces


@contextmanager
def traced_run(job: Job, lease: int, instance: str, now_ms: int) -> Iterator[None]:
    """One attempt of ``job``; before it the time in the queue and that of the claim."""
    if not traces.enabled():
        yield
        return
    parent = job.metadata.get(traces.TRACEPARENT)
    with traces.span(
        f"job {job.workflow}",
        kind="consumer",
        parent=parent if isinstance(parent, str) else None,
        attributes={
            "atelier.job.id": job.id,
            "atelier.job.workflow": job.workflow,
            "atelier.job.attempt": job.attempts,
            "atelier.job.lease": lease,
            "atelier.instance": instance,
        },
    ):
        started_ms = job.started_at_ms or now_ms
        traces.past("queue", start_ms=job.created_at_ms, end_ms=started_ms)
        traces.past("claim", start_ms=started_ms, end_ms=now_ms)
        yield


@asynccontextmanager
async def traced_execution(nodes: traces.NodeSpans) -> AsyncIterator[None]:
    """From before the POST until the prompt has ended; ``nodes`` are below it."""
    with traces.span("execute"):
        try:
            yield
        finally:
            nodes.begin(None)


def class_of(graph: Mapping[str, Any], node: str) -> str:
    """The class of a node; nodes that ComfyUI makes while it runs are in no graph of ours."""
    found = graph.get(node)
    return str(found["class_type"]) if found is not None else "unknown"
