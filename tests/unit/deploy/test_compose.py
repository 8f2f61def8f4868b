"""The compose files fit together."""

import json
import re

import pytest
import yaml
from deployment import COMPOSE, OURS, ROOT, compose, services

from atelier import __version__
from atelier.settings import Settings

CLUSTER = compose(ROOT / "compose.cluster.yaml")
CONDITIONS = {"service_started", "service_healthy", "service_completed_successfully"}


@pytest.mark.parametrize("path", COMPOSE, ids=lambda path: path.name)
def test_what_a_service_waits_for_exists(path):
    all_services = compose(path)["services"]
    for name, service in all_services.items():
        waits = service.get("depends_on", {})
        if isinstance(waits, list):
            waits = {other: {"condition": "service_started"} for other in waits}
        for other, how in waits.items():
            waited = all_services[other]
            assert how["condition"] in CONDITIONS
            assert set(waited.get("profiles", [])) <= set(service.get("profiles", [])), name
            if how["condition"] == "service_healthy":
                assert "test" in waited["healthcheck"], f"{name} would wait for {other} for ever"
            if how["condition"] == "service_completed_successfully":
                assert waited["restart"].partition(":")[0] in ("no", "on-failure")


@pytest.mark.parametrize("path", COMPOSE, ids=lambda path: path.name)
def test_volumes_and_files_exist(path):
    document = compose(path)
    named = set(document.get("volumes", {}))
    used = set()
    for service in document["services"].values():
        for volume in service.get("volumes", []):
            source = volume.partition(":")[0]
            if source.startswith("./"):
                assert (ROOT / source).exists()
                assert volume.endswith(":ro")
            elif ":" in volume:
                used.add(source)
    assert used == named


def test_images_are_pinned_and_ours_is_of_this_version():
    for path, name, service in services():
        image, _, tag = service["image"].partition(":")
        if image == OURS:
            assert service["build"] == ".", name
            # The one-command default is whatever lies here.
            assert tag == ("" if path.name == "compose.yaml" else __version__)
        else:
            assert re.search(r"\d", tag), name


def test_profiles():
    profiles = {name: one.get("profiles", []) for name, one in CLUSTER["services"].items()}
    observed = {name for name, of in profiles.items() if of}
    assert observed == {"prometheus", "grafana"}
    assert {tuple(profiles[name]) for name in observed} == {("observe",)}
    assert compose(ROOT / "compose.yaml")["services"].keys() == {"atelier"}


def test_only_the_proxy_can_be_reached_from_outside():
    published = {
        name: port for name, one in CLUSTER["services"].items() for port in one.get("ports", [])
    }
    assert published.keys() == {"proxy", "grafana"}
    assert published["grafana"].startswith("127.0.0.1:")


def test_parts_find_each_other():
    names = CLUSTER["services"].keys()
    environment = CLUSTER["x-atelier"]["environment"]
    for variable in ("DATABASE_URL", "REDIS_URL", "STORAGE_URL"):
        assert set(re.findall(r"(?:@|http://)(\w+)", environment[variable])) <= names
    caddy = (ROOT / "deploy/compose/Caddyfile").read_text()
    assert set(re.findall(r"^\s+(?:reverse_proxy|name) (\w+)", caddy, re.MULTILINE)) == {
        "minio",
        "api",
    }
    prometheus = yaml.safe_load((ROOT / "deploy/compose/prometheus.yml").read_text())
    [job] = prometheus["scrape_configs"]
    [lookup] = job["dns_sd_configs"]
    assert set(lookup["names"]) <= names
    assert str(lookup["port"]) == environment["ATELIER_METRICS_PORT"]
    # One bucket by one name: made, written to, read by the proxy, and opened to readers of objects.
    policy = json.loads((ROOT / "deploy/compose/bucket-policy.json").read_text())
    [statement] = policy["Statement"]
    assert statement["Action"] == ["s3:GetObject"]
    assert statement["Resource"] == ["arn:aws:s3:::pictures/*"]
    assert "store/pictures" in CLUSTER["services"]["bucket"]["command"][0]
    assert environment["STORAGE_URL"].startswith("s3://pictures?")
    assert "rewrite * /pictures{path}" in caddy


def test_two_api_processes_and_time_to_stop():
    assert CLUSTER["services"]["api"]["deploy"]["replicas"] == 2
    grace = int(
        CLUSTER["x-atelier"]["environment"]["ATELIER_GRACE_SECONDS"].strip("${}").partition(":-")[2]
    )
    # Recording, handing over and the end of the listeners take up to 17 s after the grace.
    assert int(CLUSTER["x-atelier"]["stop_grace_period"].removesuffix("s")) >= grace + 20
    [alone] = compose(ROOT / "compose.yaml")["services"].values()
    default = Settings.model_fields["grace_seconds"].default
    assert int(alone["stop_grace_period"].removesuffix("s")) >= default + 20
