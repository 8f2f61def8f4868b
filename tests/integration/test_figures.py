"""/metrics and spans of real jobs on the embedded engine."""

import json
import re
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

from atelier.database import DatabaseUnavailable
from atelier.service import Submission
from atelier.service.figures import Watching
from atelier.telemetry import traces

ROOT = Path(__file__).parents[2]


def watching(service):
    return Watching(
        database=service.database,
        queue=service.queue,
        pool=service.pool,
        bus=service.bus,
        running_jobs=lambda: 0,
    )


async def shown(service):
    body, _ = await watching(service).metrics("")
    return body.decode()


def names(text):
    """Of all families, as they can stand in a query."""
    found = set()
    for name, kind in re.findall(r"^# TYPE (\w+) (\w+)", text, re.MULTILINE):
        parts = ("_bucket", "_sum", "_count") if kind == "histogram" else ("",)
        found |= {name + part for part in parts}
    return found


async def test_waiting_jobs_are_counted_by_workflow_and_model(service, graph_of):
    for _ in range(3):
        await service.generations.submit(Submission(workflow=graph_of(), user="u"))
    text = await shown(service)
    assert re.search(r'^atelier_queue_jobs\{model="",workflow="\w+"\} 3.0$', text, re.MULTILINE)
    assert re.search(r"^atelier_queue_depth 3.0$", text, re.MULTILINE)
    assert re.search(r'^atelier_instance_up\{instance="[^"]+"\} 1.0$', text, re.MULTILINE)


async def test_metrics_are_told_while_the_database_is_away(service, monkeypatch):
    watch = watching(service)

    def away():
        raise DatabaseUnavailable("away for a test")

    monkeypatch.setattr(service.database, "read", away)
    body, _ = await watch.metrics("application/openmetrics-text; version=1.0.0")
    assert b"atelier_database_up 0.0" in body
    assert body.endswith(b"# EOF\n")


async def test_page_of_metrics_has_each_and_no_other(service):
    text = await shown(service)
    page = (ROOT / "docs" / "operations" / "metrics.md").read_text("utf-8")
    documented = set(re.findall(r"^\| `(atelier_\w+)`", page, re.MULTILINE))
    told = {name for name, _ in re.findall(r"^# TYPE (atelier_\w+) (\w+)", text, re.MULTILINE)}
    assert documented == {name for name in told if not name.endswith("_created")}


async def test_dashboard_asks_for_metrics_that_exist(service):
    known = names(await shown(service))
    board = json.loads((ROOT / "deploy" / "grafana" / "atelier.json").read_text("utf-8"))
    queries = [target["expr"] for panel in board["panels"] for target in panel["targets"]]
    for query in queries:
        asked = set(re.findall(r"\batelier_\w+", query))
        assert asked, query
        assert asked <= known, query


async def test_a_job_leaves_spans_from_the_request_to_its_nodes(service, graph_of):
    from opentelemetry.sdk.trace.export import SimpleSpanProcessor
    from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

    exporter = InMemorySpanExporter()
    async with traces.tracing(
        version="1", instance="w1", processor=lambda: SimpleSpanProcessor(exporter)
    ):
        caller = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
        with traces.span("POST /v1/jobs", kind="server", parent=caller):
            view, _ = await service.generations.submit(Submission(workflow=graph_of(), user="u"))
        # The worker knows nothing but the database's row.
        async with service.worker():
            await service.succeeded(view.job.id)
    spans = {span.name: span for span in exporter.get_finished_spans()}
    run = next(span for name, span in spans.items() if name.startswith("job "))
    assert {"queue", "claim", "fetch inputs", "upload inputs", "submit", "execute"} <= set(spans)
    assert {"collect and record", "node EmptyImage", "node SaveImage"} <= set(spans)
    assert {f"{span.context.trace_id:032x}" for span in spans.values()} == {
        "0af7651916cd43dd8448eb211c80319c"
    }
    assert run.parent.span_id == spans["POST /v1/jobs"].context.span_id
    assert spans["execute"].parent.span_id == run.context.span_id
    assert spans["node SaveImage"].parent.span_id == spans["execute"].context.span_id


class Collector(BaseHTTPRequestHandler):
    bodies: list[tuple[str, bytes]] = []  # noqa: RUF012

    def do_POST(self):
        self.bodies.append((self.path, self.rfile.read(int(self.headers["content-length"]))))
        self.send_response(200)
        self.end_headers()

    def log_message(self, *_):
        pass


async def test_spans_are_sent_as_protobuf_over_http(monkeypatch):
    import gzip

    from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

    server = HTTPServer(("127.0.0.1", 0), Collector)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    monkeypatch.setenv(
        "OTEL_EXPORTER_OTLP_ENDPOINT", f"http://127.0.0.1:{server.server_address[1]}"
    )
    try:
        async with traces.tracing(version="1", instance="w1"):
            with traces.span("told"):
                pass
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
    (path, body), *_ = Collector.bodies
    if body[:2] == b"\x1f\x8b":
        body = gzip.decompress(body)
    spans = ExportTraceServiceRequest.FromString(body).resource_spans[0]
    told = {one.key: one.value.string_value for one in spans.resource.attributes}
    assert path == "/v1/traces"
    assert told["service.name"] == "atelier"
    assert spans.scope_spans[0].spans[0].name == "told"


def test_who_does_not_trace_loads_no_sdk():
    import subprocess
    import sys

    code = (
        "import sys, atelier.app; from atelier.telemetry import traces\n"
        "with traces.span('x'): pass\n"
        "assert traces.carried({'a': 1}) == {'a': 1}\n"
        "print([m for m in sys.modules if m.startswith('opentelemetry.sdk')])"
    )
    # Libraries of ours load the API by themselves where it is installed.
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
