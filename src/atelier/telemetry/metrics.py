"""What this process counts and times, for Prometheus. Other rooms call the functions here.

Names and meanings: docs/operations/metrics.md. Each process counts its own part; Prometheus adds.
"""

from collections.abc import Iterable, Iterator, Mapping
from typing import Final, Literal

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector

from atelier.telemetry.labels import Labels

Outcome = Literal["succeeded", "failed", "cancelled"]
Recovery = Literal["reattached", "rerun", "spooled"]

# Pictures take seconds, films minutes; a wait may take an hour.
_LONG: Final = (0.1, 0.5, 1, 2, 5, 10, 20, 30, 60, 120, 300, 600, 1800, 3600)
_REQUEST: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 10, 30)

# Not the library's: tests and libraries put theirs there.
registry = CollectorRegistry()
ProcessCollector(registry=registry)

_workflows = Labels(most=50)
_instances = Labels(most=200)
_codes = Labels(most=100)

_build = Gauge(
    "atelier_build_info", "Always 1; the version is a label.", ["version"], registry=registry
)
_ended = Counter(
    "atelier_jobs_ended", "Jobs that ended.", ["workflow", "outcome", "code"], registry=registry
)
_wait = Histogram(
    "atelier_job_wait_seconds",
    "From arrival to the last start.",
    ["workflow"],
    buckets=_LONG,
    registry=registry,
)
_run = Histogram(
    "atelier_job_run_seconds",
    "At the instance, without preparing.",
    ["workflow"],
    buckets=_LONG,
    registry=registry,
)
_retries = Counter(
    "atelier_job_retries", "Attempts that failed and are tried again.", ["code"], registry=registry
)
_switches = Counter(
    "atelier_model_switches", "Runs that had to load their model.", ["instance"], registry=registry
)
_avoided = Counter(
    "atelier_model_switch_seconds_avoided",
    "Loading that runs were spared by going where their model was.",
    ["instance"],
    registry=registry,
)
_idle = Counter(
    "atelier_seat_idle_seconds",
    "Seconds that a seat stood free while the job that it then took was waiting.",
    ["instance"],
    registry=registry,
)
_expired = Counter(
    "atelier_leases_expired",
    "Jobs taken over since their worker's lease ran out.",
    registry=registry,
)
_lost = Counter(
    "atelier_leases_lost", "Jobs that another worker has taken from this one.", registry=registry
)
_recovered = Counter(
    "atelier_runs_recovered",
    "What became of prompts of a lost worker: reattached, rerun, or spooled results.",
    ["how"],
    registry=registry,
)
_requests = Histogram(
    "atelier_http_request_seconds",
    "HTTP requests until the answer has been sent.",
    ["method", "route", "status"],
    buckets=_REQUEST,
    registry=registry,
)


def build(version: str) -> None:
    _build.clear()
    _build.labels(version).set(1)


def job_ended(
    workflow: str, outcome: Outcome, *, code: str = "", timings: Mapping[str, int] | None = None
) -> None:
    """Count a job's end; ``timings`` are those of its record, in milliseconds."""
    name = _workflows.bounded(workflow)
    _ended.labels(name, outcome, _codes.bounded(code)).inc()
    if timings is not None:
        _wait.labels(name).observe(timings["queued_ms"] / 1000)
        _run.labels(name).observe(timings["execute_ms"] / 1000)


def job_retried(code: str) -> None:
    _retries.labels(_codes.bounded(code)).inc()


def model_switched(instance: str) -> None:
    """A run is about to load a model that ``instance`` didn't hold."""
    _switches.labels(_instances.bounded(instance)).inc()


def model_was_warm(instance: str, switch_seconds: float) -> None:
    """A run finds its model loaded, which would have taken ``switch_seconds``."""
    _avoided.labels(_instances.bounded(instance)).inc(max(0.0, switch_seconds))


def seat_was_idle(instance: str, *, free_since_ms: int, waiting_since_ms: int, now_ms: int) -> None:
    """A seat took a job now; count for how long both were there already."""
    idle_ms = now_ms - max(free_since_ms, waiting_since_ms)
    _idle.labels(_instances.bounded(instance)).inc(max(0, idle_ms) / 1000)


def leases_expired(number: int) -> None:
    _expired.inc(number)


def lease_lost() -> None:
    _lost.inc()


def run_recovered(how: Recovery) -> None:
    _recovered.labels(how).inc()


def request_ended(method: str, route: str, status: int | None, seconds: float) -> None:
    """``route`` is a template, never a path; no ``status``: the connection broke first."""
    shown = "none" if status is None else f"{status // 100}xx"
    _requests.labels(method, route, shown).observe(seconds)


def exposition(accept: str, state: Iterable["Collector"] = ()) -> tuple[bytes, str]:
    """All metrics in the form that ``accept`` (a header) asks for, with its media type."""
    encode, media_type = choose_encoder(accept)
    together = CollectorRegistry(auto_describe=False)
    together.register(_Counted())
    for collector in state:
        together.register(collector)
    return encode(together), media_type


class _Counted(Collector):
    def collect(self) -> Iterator[object]:  # type: ignore[override]
        yield from registry.collect()
