"""What deploy/ and the compose files say, read once."""

from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[3]
KUBERNETES = ROOT / "deploy/kubernetes"
COMPOSE = (ROOT / "compose.yaml", ROOT / "compose.cluster.yaml")
OURS, COMFYUI = "atelier", "comfyui"

Manifest = dict[str, Any]


@cache
def documents(path: Path) -> tuple[Manifest, ...]:
    return tuple(one for one in yaml.safe_load_all(path.read_text()) if one)


@cache
def kustomizations() -> dict[Path, Manifest]:
    """By folder."""
    found = sorted(KUBERNETES.rglob("kustomization.yaml"))
    return {path.parent: documents(path)[0] for path in found}


@cache
def manifests() -> tuple[Manifest, ...]:
    paths = sorted(KUBERNETES.rglob("*.yaml"))
    return tuple(
        one for path in paths if path.name != "kustomization.yaml" for one in documents(path)
    )


def of_kind(*kinds: str) -> list[Manifest]:
    return [one for one in manifests() if one["kind"] in kinds]


def named(kind: str, name: str) -> Manifest:
    [found] = [one for one in of_kind(kind) if one["metadata"]["name"] == name]
    return found


def workloads(among: Iterable[Manifest] | None = None) -> list[Manifest]:
    kinds = ("Deployment", "StatefulSet", "Job")
    return [one for one in (manifests() if among is None else among) if one["kind"] in kinds]


def containers(workload: Manifest) -> list[Manifest]:
    pod = workload["spec"]["template"]["spec"]
    return [*pod.get("initContainers", []), *pod["containers"]]


def env_file(path: Path) -> dict[str, str]:
    lines = [line for line in path.read_text().splitlines() if line and line[0] != "#"]
    return dict(line.split("=", 1) for line in lines)


@cache
def compose(path: Path) -> Manifest:
    return documents(path)[0]


def services() -> Iterator[tuple[Path, str, Manifest]]:
    for path in COMPOSE:
        for name, service in compose(path)["services"].items():
            yield path, name, service
