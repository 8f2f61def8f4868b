"""Variables, ports, paths and metrics of the deployment are those of the program."""

import json
import re
from pathlib import Path
from unittest.mock import MagicMock

import pytest
import yaml
from deployment import (
    KUBERNETES,
    OURS,
    ROOT,
    containers,
    env_file,
    manifests,
    named,
    of_kind,
    services,
    workloads,
)
from fastapi.openapi.utils import get_openapi
from pydantic import AliasChoices

from atelier.api import create_api, create_side_api
from atelier.settings import Settings, load_settings

# Of images that aren't ours, by image.
FOREIGN = {
    "comfyui": {"HOME"},
    "postgres": {"POSTGRES_USER", "POSTGRES_DB", "POSTGRES_PASSWORD"},
    "redis": {"REDISCLI_AUTH"},
    "minio/minio": {"MINIO_ROOT_USER", "MINIO_ROOT_PASSWORD"},
    "minio/mc": {"MINIO_PASSWORD"},
    "grafana/grafana": {
        "GF_SECURITY_ADMIN_PASSWORD",
        "GF_USERS_ALLOW_SIGN_UP",
        "GF_ANALYTICS_REPORTING_ENABLED",
    },
}
HTTP, METRICS = 8000, 9090


def settings():
    for field in Settings.model_fields.values():
        alias = field.validation_alias
        yield from alias.choices if isinstance(alias, AliasChoices) else [alias]


SETTINGS = frozenset(settings())


@pytest.fixture(scope="module")
def served():
    """Paths of the API, by the name of the port."""
    api = create_api(MagicMock()).openapi()["paths"]
    side = create_side_api(MagicMock(), title="atelier", version="1").routes
    return {
        "http": set(api),
        "metrics": set(get_openapi(title="side", version="1", routes=side)["paths"]),
    }


def test_every_variable_in_kubernetes_is_understood():
    files = sorted(path for path in KUBERNETES.rglob("*") if ".env" in path.name)
    assert len(files) == 3
    for path in files:
        assert env_file(path).keys() <= SETTINGS, path
    for workload in workloads():
        for one in containers(workload):
            names = {variable["name"] for variable in one.get("env", [])}
            known = SETTINGS if one["image"] == OURS else FOREIGN[one["image"]]
            assert names <= known, (workload["metadata"]["name"], one["name"])


def test_secrets_are_kept_apart():
    secret = {name for name in SETTINGS if re.search("SECRET|PASSWORD|ACCESS_KEY|TOKEN", name)}
    secret |= {"DATABASE_URL", "REDIS_URL"}
    for path in KUBERNETES.rglob("*.env"):
        assert not env_file(path).keys() & secret, path
    example = env_file(KUBERNETES / "overlays/example/secrets.env.example")
    assert example.keys() <= secret
    assert "Secret" not in {one["kind"] for one in manifests()}
    ignored = (ROOT / ".gitignore").read_text().splitlines()
    assert {"secrets.env", "cluster.env"} <= set(ignored)


def test_every_variable_in_compose_is_understood():
    for path, name, service in services():
        image = service["image"].partition(":")[0]
        known = SETTINGS if image == OURS else FOREIGN.get(image, set())
        assert service.get("environment", {}).keys() <= known, (path.name, name)


def test_variables_of_compose_are_told(tmp_path):
    text = (ROOT / "compose.cluster.yaml").read_text()
    needed = set(re.findall(r"\$\{(\w+):\?", text))
    assert env_file(ROOT / "deploy/compose/cluster.env.example").keys() == needed
    bare = set(re.findall(r"(?<!\$)\$\{(\w+)\}", text))
    assert bare <= needed, "without a default, and nobody is told"
    passwords = {name for name in re.findall(r"\$\{(\w+)", text) if name.endswith("PASSWORD")}
    assert passwords <= needed


def deployed():
    """Where, and the variables that our processes are given there."""
    overlay = KUBERNETES / "overlays/example"
    base = env_file(KUBERNETES / "base/atelier.env") | env_file(overlay / "atelier.env")
    base |= env_file(overlay / "secrets.env.example")
    for workload in workloads():
        own = workload["spec"]["template"]["spec"]["containers"][0].get("env", [])
        yield workload["metadata"]["name"], base | {one["name"]: one["value"] for one in own}
    filled = env_file(ROOT / "deploy/compose/cluster.env.example")
    filled = {name: value or "abc123" for name, value in filled.items()}
    for path, name, service in services():
        if service["image"].partition(":")[0] == OURS:
            yield (
                f"{path.name} {name}",
                {key: filled_in(text, filled) for key, text in service["environment"].items()},
            )


def filled_in(text, values):
    """As Compose does it, as far as we use it."""
    return re.sub(
        r"\$\{(\w+)(?::-([^}]*)|:\?[^}]*)?\}",
        lambda found: values.get(found[1]) or found[2] or "",
        text,
    )


@pytest.mark.parametrize(
    "environment", [pytest.param(given, id=where) for where, given in deployed()]
)
def test_what_is_set_is_accepted(environment, monkeypatch):
    for name in SETTINGS:
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    settings = load_settings()
    assert (settings.host, settings.port) == ("0.0.0.0", HTTP)
    if environment["DATABASE_URL"]:  # not the one-command default
        assert settings.database.startswith("postgresql://atelier:")
        assert settings.redis_url
        assert settings.storage.url.startswith("s3://pictures?")
        assert settings.metrics_port == METRICS
        assert settings.log_folder is None
        assert settings.embedded_engine == "never"
        assert settings.public_url


def ports_of(container):
    return {one["name"]: one["containerPort"] for one in container.get("ports", [])}


def test_ports_are_those_that_are_listened_to():
    env = env_file(KUBERNETES / "base/atelier.env")
    assert (env["PORT"], env["ATELIER_METRICS_PORT"]) == (str(HTTP), str(METRICS))
    listened = {"http": HTTP, "metrics": METRICS}
    ours = [one for workload in workloads() for one in containers(workload) if ports_of(one)]
    assert [set(ports_of(one)) for one in ours] == [{"http", "metrics"}, {"metrics"}]
    for one in ours:
        assert ports_of(one).items() <= listened.items()
    for service in of_kind("Service"):
        [target] = [one["targetPort"] for one in service["spec"]["ports"]]
        [owner] = [
            one for one in workloads() if one["metadata"]["name"] == service["metadata"]["name"]
        ]
        assert target in ports_of(owner["spec"]["template"]["spec"]["containers"][0])


def test_probes_ask_for_what_is_served(served):
    probed = 0
    for workload in workloads():
        for one in containers(workload):
            for kind in ("startupProbe", "livenessProbe", "readinessProbe"):
                if (probe := one.get(kind)) is None or one["image"] != OURS:
                    continue
                get = probe["httpGet"]
                assert get["path"] in served[get["port"]]
                assert get["port"] in ports_of(one)
                # The others answer 503 while the database is away, which a restart wouldn't mend.
                assert get["path"] == ("/ready" if kind == "readinessProbe" else "/live")
                probed += 1
    assert probed == 6
    [endpoint] = of_kind("PodMonitor")[0]["spec"]["podMetricsEndpoints"]
    assert endpoint["path"] in served[endpoint["port"]]


def test_health_of_the_image_and_in_compose(served):
    health = r"127\.0\.0\.1:(.+?)(/\w+)(?:'|\\?\")"
    [(_, path)] = re.findall(health, (ROOT / "Dockerfile").read_text())
    assert path == "/live"
    checks = {
        name: re.findall(health, service["healthcheck"]["test"][-1])
        for _, name, service in services()
        if "test" in service.get("healthcheck", {}) and service["image"].startswith(OURS)
    }
    assert checks == {"api": [(str(HTTP), "/ready")], "worker": [(str(METRICS), "/live")]}
    assert path in served["http"] & served["metrics"]
    assert "/ready" in served["http"]


def test_the_ingress_lets_in_every_path_but_the_metrics(served):
    [ingress] = of_kind("Ingress")
    [rule] = ingress["spec"]["rules"]
    rules = [(one["path"], one["pathType"]) for one in rule["http"]["paths"]]

    def is_let_in(path):
        return any(
            path == allowed or (kind == "Prefix" and path.startswith(f"{allowed}/"))
            for allowed, kind in rules
        )

    assert {path for path in served["http"] if not is_let_in(path)} == {"/metrics"}
    assert all(map(is_let_in, ("/", "/docs", "/docs-static/a.js", "/redoc", "/openapi.json")))
    for one in rule["http"]["paths"]:
        backend = one["backend"]["service"]
        ports = named("Service", backend["name"])["spec"]["ports"]
        assert backend["port"]["name"] in [port["name"] for port in ports]
    # Within a handle of its own: beside one that takes everything, a bare respond comes too late.
    caddy = (ROOT / "deploy/compose/Caddyfile").read_text()
    assert re.search(r"handle /metrics\* \{\s+respond 404\s+\}", caddy)


def metrics_told():
    rows = (ROOT / "docs/operations/metrics.md").read_text().splitlines()
    return {row.split("`")[1]: row.split("|")[2].strip() for row in rows if row.startswith("| `at")}


def metrics_made():
    """Names of families as they are declared; a counter's samples have _total."""
    text = "".join(path.read_text() for path in (ROOT / "src/atelier/telemetry").glob("*.py"))
    return set(re.findall(r'"(atelier_\w+)"', text))


def expressions():
    board = json.loads((ROOT / "deploy/grafana/atelier.json").read_text())
    for panel in board["panels"]:
        for target in panel.get("targets", []):
            yield panel["title"], target["expr"]
    for scaled in of_kind("ScaledObject"):
        for trigger in scaled["spec"]["triggers"]:
            yield scaled["metadata"]["name"], trigger["metadata"]["query"]


def test_every_metric_that_is_asked_for_exists():
    made, told = metrics_made(), metrics_told()
    assert made == {name.removesuffix("_total") for name in told}
    asked = 0
    for where, expression in expressions():
        for name in re.findall(r"\batelier_\w+", expression):
            family = re.sub(r"_(bucket|sum|count)$", "", name)
            family = family if told.get(family) == "histogram" else name
            assert family in told, (where, name)
            asked += 1
    assert asked > 10


def test_the_scaler_looks_at_its_own_namespace():
    overlay = yaml.safe_load((KUBERNETES / "overlays/example/kustomization.yaml").read_text())
    [scaled] = of_kind("ScaledObject")
    [trigger] = scaled["spec"]["triggers"]
    namespaces = re.findall(r'namespace="([^"]+)"', trigger["metadata"]["query"])
    assert set(namespaces) == {overlay["namespace"]}
    assert len(namespaces) == trigger["metadata"]["query"].count("atelier_")


def test_grafana_finds_its_files():
    folder = ROOT / "deploy/grafana/provisioning"
    [source] = yaml.safe_load((folder / "datasources/prometheus.yaml").read_text())["datasources"]
    [board] = yaml.safe_load((folder / "dashboards/atelier.yaml").read_text())["providers"]
    grafana = next(one for _, name, one in services() if name == "grafana")
    inside = [volume.split(":")[1] for volume in grafana["volumes"]]
    assert "/etc/grafana/provisioning" in inside
    assert f"{board['options']['path']}/atelier.json" in inside
    assert source["url"] == "http://prometheus:9090"
    dashboard = json.loads(Path(ROOT / "deploy/grafana/atelier.json").read_text())
    [variable] = dashboard["templating"]["list"]
    assert (variable["type"], variable["query"]) == ("datasource", source["type"])
