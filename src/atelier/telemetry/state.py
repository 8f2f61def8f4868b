"""How things stand when Prometheus asks: the queue, the instances, what waits elsewhere."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector


@dataclass(frozen=True, slots=True)
class Waiting:
    """``count`` jobs of one workflow and model (empty: none); the oldest waits that long."""

    workflow: str
    model: str
    count: int
    oldest_seconds: float


@dataclass(frozen=True, slots=True)
class DeviceFigures:
    name: str
    total_bytes: float
    free_bytes: float


@dataclass(frozen=True, slots=True)
class InstanceFigures:
    """One instance as this process sees it; None: it isn't known here.

    ``breaker`` is closed, open or half-open; ``driver`` the worker that drives it.
    """

    id: str
    up: bool
    running: int
    served: int
    queue: int | None
    latency_seconds: float | None
    devices: tuple[DeviceFigures, ...]
    breaker: str | None = None
    driver: str | None = None


@dataclass(frozen=True, slots=True)
class SharedFigures:
    """What the database tells, the same to every process."""

    waiting: Sequence[Waiting]
    running: int
    webhooks_pending: int
    webhooks_oldest_seconds: float


@dataclass(frozen=True, slots=True)
class Figures:
    """``shared`` is None while the database is away."""

    shared: SharedFigures | None
    instances: Sequence[InstanceFigures]
    listeners: int
    database_retries: int
    worker_jobs: int
    spool_jobs: int
    spool_bytes: int


class State(Collector):
    """``figures`` as metrics. Families without samples are there too, so that names are known."""

    def __init__(self, figures: Figures) -> None:
        self._figures = figures

    def collect(self) -> Iterator[Metric]:
        figures = self._figures
        yield _gauge(
            "atelier_database_up", "1 while the database answers.", figures.shared is not None
        )
        retries = CounterMetricFamily(
            "atelier_database_retries", "Transactions tried again: deadlock, lock, lost connection."
        )
        retries.add_metric([], figures.database_retries)
        yield retries
        yield from _shared(figures.shared)
        yield from _instances(figures.instances)
        yield _gauge("atelier_event_listeners", "Open event streams here.", figures.listeners)
        yield _gauge("atelier_worker_jobs", "Jobs that this worker holds.", figures.worker_jobs)
        yield _gauge("atelier_spool_jobs", "Results that wait for the store.", figures.spool_jobs)
        yield _gauge("atelier_spool_bytes", "Bytes of these results.", figures.spool_bytes)


def _shared(shared: SharedFigures | None) -> Iterator[Metric]:
    labels = ["workflow", "model"]
    depth = GaugeMetricFamily("atelier_queue_jobs", "Jobs that wait.", labels=labels)
    oldest = GaugeMetricFamily(
        "atelier_queue_oldest_wait_seconds", "Age of the oldest that waits.", labels=labels
    )
    for one in shared.waiting if shared else ():
        depth.add_metric([one.workflow, one.model], one.count)
        oldest.add_metric([one.workflow, one.model], one.oldest_seconds)
    yield depth
    yield oldest
    total = sum(one.count for one in shared.waiting) if shared else None
    yield _gauge("atelier_queue_depth", "All jobs that wait.", total)
    yield _gauge("atelier_jobs_running", "Jobs that run.", shared.running if shared else None)
    pending = shared.webhooks_pending if shared else None
    yield _gauge("atelier_webhooks_pending", "Webhooks that are to be sent.", pending)
    age = shared.webhooks_oldest_seconds if shared else None
    yield _gauge("atelier_webhooks_oldest_seconds", "Age of the oldest of them.", age)


def _instances(instances: Sequence[InstanceFigures]) -> Iterator[Metric]:
    of, at = ["instance"], ["instance", "device"]
    up = GaugeMetricFamily("atelier_instance_up", "1 while it can take work.", labels=of)
    breaker = GaugeMetricFamily(
        "atelier_instance_breaker",
        "1 for the state that its circuit breaker is in.",
        labels=["instance", "state"],
    )
    driver = GaugeMetricFamily(
        "atelier_instance_driver", "1 for the worker that drives it.", labels=["instance", "worker"]
    )
    running = GaugeMetricFamily("atelier_instance_jobs", "Our jobs at the instance.", labels=of)
    queue = GaugeMetricFamily(
        "atelier_instance_queue", "Prompts in its own queue, others' too.", labels=of
    )
    latency = GaugeMetricFamily("atelier_instance_latency_seconds", "Of the last probe.", labels=of)
    served = CounterMetricFamily("atelier_instance_runs", "Runs that ended there.", labels=of)
    total = GaugeMetricFamily("atelier_instance_vram_bytes", "Memory of a device.", labels=at)
    free = GaugeMetricFamily("atelier_instance_vram_free_bytes", "What is free of it.", labels=at)
    for one in instances:
        up.add_metric([one.id], one.up)
        running.add_metric([one.id], one.running)
        served.add_metric([one.id], one.served)
        if one.breaker is not None:
            breaker.add_metric([one.id, one.breaker], 1)
        if one.driver is not None:
            driver.add_metric([one.id, one.driver], 1)
        if one.queue is not None:
            queue.add_metric([one.id], one.queue)
        if one.latency_seconds is not None:
            latency.add_metric([one.id], one.latency_seconds)
        for device in one.devices:
            total.add_metric([one.id, device.name], device.total_bytes)
            free.add_metric([one.id, device.name], device.free_bytes)
    yield from (up, breaker, driver, running, queue, latency, served, total, free)


def _gauge(name: str, meaning: str, value: float | None) -> GaugeMetricFamily:
    """A single value; no sample where it isn't known."""
    family = GaugeMetricFamily(name, meaning, labels=[])
    if value is not None:
        family.add_metric([], value)
    return family
