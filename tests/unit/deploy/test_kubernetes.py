"""The manifests are what Kubernetes and the operators take, and fit each other."""

import re
import shutil
import subprocess

import jsonschema
import kubernetes_validate
import pytest
import yaml
from deployment import (
    COMFYUI,
    KUBERNETES,
    OURS,
    ROOT,
    containers,
    kustomizations,
    manifests,
    named,
    of_kind,
    workloads,
)
from operator_schemas import SCHEMAS

from atelier import __version__

# The oldest that has side-cars, one between, the newest that is known.
VERSIONS = ("1.29", "1.33", kubernetes_validate.latest_version())
BY_NAME = [pytest.param(one, id=f"{one['kind']}-{one['metadata']['name']}") for one in manifests()]
CORE = [one for one in BY_NAME if one.values[0]["kind"] not in SCHEMAS]


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("manifest", CORE)
def test_is_what_kubernetes_takes(manifest, version):
    kubernetes_validate.validate(manifest, version, strict=True)


def test_what_kubernetes_would_refuse_is_seen():
    job = yaml.safe_load(yaml.safe_dump(named("Job", "atelier-migrate")))
    job["spec"]["template"]["spec"]["containers"][0]["livenesProbe"] = {}
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(job, VERSIONS[0], strict=True)


@pytest.mark.parametrize("kind", SCHEMAS)
def test_is_what_the_operator_takes(kind):
    [manifest] = of_kind(kind)
    jsonschema.validate(manifest, SCHEMAS[kind])
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(manifest | {"spec": manifest["spec"] | {"selektor": {}}}, SCHEMAS[kind])


@pytest.mark.skipif(shutil.which("kubectl") is None, reason="kubectl isn't installed here")
def test_what_kustomize_makes_is_what_kubernetes_takes():
    command = ["kubectl", "kustomize", str(KUBERNETES / "overlays/example")]
    made = subprocess.run(command, check=True, capture_output=True, text=True, timeout=60).stdout
    documents = list(yaml.safe_load_all(made))
    kinds = sorted(one["kind"] for one in documents)
    assert kinds == sorted(["ConfigMap", *(one["kind"] for one in manifests())])
    [settings] = [one for one in documents if one["kind"] == "ConfigMap"]
    for one in documents:
        if one["kind"] not in SCHEMAS:
            kubernetes_validate.validate(one, VERSIONS[0], strict=True)
        for container in containers(one) if one in workloads(documents) else []:
            if container["image"].endswith(f"/{OURS}:{__version__}"):
                [source, _] = container["envFrom"]
                assert source["configMapRef"]["name"] == settings["metadata"]["name"]
            else:
                assert container["image"].startswith("registry.example.com/comfyui:")


def test_kustomizations_refer_to_all_there_is():
    referred = set()
    for folder, one in kustomizations().items():
        for name in [*one.get("resources", []), *one.get("components", [])]:
            path = (folder / name).resolve()
            assert path.exists(), f"{folder / 'kustomization.yaml'} refers to {name}"
            referred.add(path / "kustomization.yaml" if path.is_dir() else path)
        for generated in one.get("configMapGenerator", []):
            for name in generated["envs"]:
                assert (folder / name).is_file()
                referred.add(folder / name)
    files = {path for path in KUBERNETES.rglob("*") if path.is_file()}
    top = KUBERNETES / "overlays/example"
    assert files - referred == {top / "kustomization.yaml", top / "secrets.env.example"}


def test_images_have_one_name_and_the_tag_of_this_version():
    used = {one["image"] for workload in workloads() for one in containers(workload)}
    assert used == {OURS, COMFYUI}
    for folder, one in kustomizations().items():
        images = {image["name"]: image for image in one.get("images", [])}
        if one["kind"] == "Kustomization":
            assert set(images) == used, folder
            assert images[OURS]["newTag"] == __version__, folder
            assert isinstance(images[COMFYUI]["newTag"], str), folder


def labels_of(workload):
    return workload["spec"]["template"]["metadata"]["labels"]


def matches(selector, labels):
    for one in selector.get("matchExpressions", []):
        assert one["operator"] == "In"
        if labels.get(one["key"]) not in one["values"]:
            return False
    return selector.get("matchLabels", {}).items() <= labels.items()


def selectors():
    for one in manifests():
        spec, name = one.get("spec", {}), f"{one['kind']}/{one['metadata']['name']}"
        match one["kind"]:
            case "Service":
                yield name, {"matchLabels": spec["selector"]}, {one["metadata"]["name"]}
            case "NetworkPolicy":
                yield name, spec["podSelector"], None
            case "PodMonitor":
                yield name, spec["selector"], {"atelier-api", "atelier-gpu"}
            case "Deployment" | "StatefulSet" | "PodDisruptionBudget":
                yield name, spec["selector"], {one["metadata"]["name"]}


def test_selectors_match_what_they_mean():
    seen = 0
    for name, selector, meant in selectors():
        found = {
            one["metadata"]["name"] for one in workloads() if matches(selector, labels_of(one))
        }
        assert found, name
        assert meant in (None, found), name
        seen += 1
    assert seen == 10


def test_what_is_named_exists():
    for workload in workloads():
        pod = workload["spec"]["template"]["spec"]
        assert pod["serviceAccountName"] == of_kind("ServiceAccount")[0]["metadata"]["name"]
        volumes = {one["name"] for one in pod["volumes"]}
        volumes |= {
            one["metadata"]["name"] for one in workload["spec"].get("volumeClaimTemplates", [])
        }
        assert {
            mount["name"] for one in containers(workload) for mount in one["volumeMounts"]
        } == volumes
        for volume in pod["volumes"]:
            if claim := volume.get("persistentVolumeClaim"):
                assert named("PersistentVolumeClaim", claim["claimName"])
        for spread in pod.get("topologySpreadConstraints", []):
            assert matches(spread["labelSelector"], labels_of(workload))
    for scaler in of_kind("HorizontalPodAutoscaler", "ScaledObject"):
        target = scaler["spec"]["scaleTargetRef"]
        scaled = named(target["kind"], target["name"])
        assert scaled["apiVersion"] == target["apiVersion"]
        assert "replicas" not in scaled["spec"], "applying it again would undo the scaling"
    [stateful] = of_kind("StatefulSet")
    assert named("Service", stateful["spec"]["serviceName"])["spec"]["clusterIP"] == "None"


@pytest.mark.parametrize("workload", workloads(), ids=lambda one: one["metadata"]["name"])
def test_nothing_has_more_rights_than_it_needs(workload):
    pod = workload["spec"]["template"]["spec"]
    assert pod["automountServiceAccountToken"] is False
    security = pod["securityContext"]
    [user] = re.findall(r"^USER (\d+):(\d+)$", (ROOT / "Dockerfile").read_text(), re.MULTILINE)
    assert (str(security["runAsUser"]), str(security["runAsGroup"])) == user
    assert security["runAsNonRoot"]
    assert security["seccompProfile"] == {"type": "RuntimeDefault"}
    for one in containers(workload):
        rights = one["securityContext"]
        assert rights["allowPrivilegeEscalation"] is False
        assert rights["capabilities"] == {"drop": ["ALL"]}
        assert rights.get("readOnlyRootFilesystem", False) is (one["image"] == OURS)
        assert {"cpu", "memory"} <= one["resources"]["requests"].keys()
        assert "memory" in one["resources"]["limits"]
    [namespace] = of_kind("Namespace")
    assert namespace["metadata"]["labels"]["pod-security.kubernetes.io/enforce"] == "restricted"


def test_the_worker_stops_before_its_comfyui_and_has_the_time():
    pod = named("StatefulSet", "atelier-gpu")["spec"]["template"]["spec"]
    [comfyui], [worker] = pod["initContainers"], pod["containers"]
    assert comfyui["restartPolicy"] == "Always"
    assert comfyui["resources"]["limits"]["nvidia.com/gpu"] == 1
    env = {one["name"]: one["value"] for one in worker["env"]}
    assert env["COMFYUI_URLS"] == "http://127.0.0.1:8188"
    assert {"--listen=127.0.0.1", "--port=8188"} <= set(comfyui["args"])
    # As the first process of a container, Python would not hear SIGTERM.
    assert "trap 'kill $!' TERM" in comfyui["command"][2]
    # Recording, handing over and the end of the listeners take up to 17 s after the grace.
    assert pod["terminationGracePeriodSeconds"] >= float(env["ATELIER_GRACE_SECONDS"]) + 30
