"""Spans of a request and of the job that it asked for, across processes (OpenTelemetry).

The SDK and the exporter are imported when ``tracing`` is entered: others don't carry them.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import AbstractContextManager, asynccontextmanager, contextmanager
from typing import TYPE_CHECKING, Any, Final, Literal

if TYPE_CHECKING:
    from opentelemetry.context import Context
    from opentelemetry.sdk.trace import SpanProcessor
    from opentelemetry.trace import Span, Tracer

Kind = Literal["internal", "server", "client", "consumer"]
Attribute = str | int | float | bool

TRACEPARENT: Final = "traceparent"  # W3C Trace Context, as a header and in a job's metadata
FLUSH_SECONDS: Final = 5.0

_tracer: "Tracer | None" = None
_NOTHING: Final[AbstractContextManager[Any]] = contextlib.nullcontext()


def enabled() -> bool:
    return _tracer is not None


@asynccontextmanager
async def tracing(
    *, version: str, instance: str, processor: "Callable[[], SpanProcessor] | None" = None
) -> AsyncIterator[None]:
    """Until the context is left spans are sent to where the OTEL_* variables say.

    ``processor`` makes another way out than OTLP over HTTP.
    """
    global _tracer
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import TracerProvider

    found = Resource.create({"service.version": version, "service.instance.id": instance})
    if str(found.attributes.get("service.name", "")).startswith("unknown_service"):
        found = found.merge(Resource({"service.name": "atelier"}))
    provider = TracerProvider(resource=found, shutdown_on_exit=False)
    provider.add_span_processor((processor or _over_http)())
    _tracer = provider.get_tracer("atelier", version)
    try:
        yield
    finally:
        _tracer = None
        # It waits for the collector, which may be away; nobody shall wait for that long.
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(FLUSH_SECONDS):
                await asyncio.to_thread(provider.shutdown)


def _over_http() -> "SpanProcessor":
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    return BatchSpanProcessor(OTLPSpanExporter())


def span(
    name: str,
    *,
    kind: Kind = "internal",
    parent: str | None = None,
    attributes: Mapping[str, Attribute] | None = None,
) -> AbstractContextManager[Any]:
    """A span around a ``with`` block, the current one within; nothing where tracing is off.

    ``parent`` is a traceparent of another process. An exception that leaves marks it as failed.
    """
    if _tracer is None:
        return _NOTHING
    return _span(_tracer, name, kind, parent, attributes)


@contextmanager
def _span(
    tracer: "Tracer",
    name: str,
    kind: Kind,
    parent: str | None,
    attributes: Mapping[str, Attribute] | None,
) -> "Iterator[Span]":
    from opentelemetry.trace import SpanKind

    with tracer.start_as_current_span(
        name,
        context=None if parent is None else _context(parent),
        kind=SpanKind[kind.upper()],
        attributes=dict(attributes or {}),
    ) as span:
        yield span


def past(name: str, *, start_ms: int, end_ms: int) -> None:
    """A span below the current one of what is over already, by the time of day."""
    if _tracer is not None:
        started = _tracer.start_span(name, start_time=start_ms * 1_000_000)
        started.end(max(start_ms, end_ms) * 1_000_000)


def carried(metadata: Mapping[str, Any]) -> dict[str, Any]:
    """``metadata`` with the traceparent of the current span, unless it brings one along."""
    if _tracer is None or TRACEPARENT in metadata:
        return dict(metadata)
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

    carrier: dict[str, str] = {}
    TraceContextTextMapPropagator().inject(carrier)
    return {**metadata, **{k: v for k, v in carrier.items() if k == TRACEPARENT}}


def _context(traceparent: str) -> "Context":
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

    # Malformed ones are passed over: the span begins a trace of its own.
    return TraceContextTextMapPropagator().extract({TRACEPARENT: traceparent})


class NodeSpans:
    """``begin`` ends the span of the node before: ComfyUI tells when a node begins only."""

    def __init__(self, classes: Callable[[str], str]) -> None:
        self._classes = classes
        self._span: Span | None = None

    def begin(self, node: str | None) -> None:
        """``node`` runs now; None: none does."""
        if self._span is not None:
            self._span.end()
            self._span = None
        if _tracer is not None and node is not None:
            kind = self._classes(node)
            self._span = _tracer.start_span(
                f"node {kind}", attributes={"comfyui.node.id": node, "comfyui.node.class": kind}
            )
