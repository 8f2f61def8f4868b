"""Callers of the dialects, in Node and in Python, as people have them today."""

import base64
import json
import os
import shutil
import subprocess
import time
import urllib.request
from importlib.resources import files
from pathlib import Path

import pytest
from PIL import Image

CALLERS = Path(__file__).parent / "callers"
# Each caller, and the pictures that it brings home.
PICTURES = {
    "transform": {"anime.png", "clay.png"},
    "tasks": {"cartoon.png", "inverted.png"},
    "studio": {"studio-0.png", "studio-1.png"},
    "workflow_service": {"downloaded.png", "by-url.png", "listed.png"},
}


@pytest.fixture(scope="module")
def node():
    """The command of a Node that knows WebSockets (20 behind a flag, later ones by itself)."""
    found = shutil.which("node")
    reason = "node isn't there"
    if found is not None:
        said = subprocess.run([found, "--version"], capture_output=True, text=True, check=True)
        major = int(said.stdout.lstrip("v").partition(".")[0])
        if major >= 22:
            return [found]
        if major >= 20:
            return [found, "--experimental-websocket", "--no-warnings"]
        reason = f"node {said.stdout.strip()} is older than 20"
    if os.environ.get("REQUIRE_SERVICES") == "1":
        pytest.fail(reason)
    pytest.skip(reason)


@pytest.fixture(scope="module")
def up(new_up):
    return new_up(ATELIER_FETCH_ALLOW="127.0.0.1").start()


@pytest.fixture(scope="module")
def up_with_comfyui(new_up, comfyui_url, tmp_path_factory):
    """On a ComfyUI, with `style_change` at a size that a CPU can do."""
    folder = tmp_path_factory.mktemp("workflows")
    shipped = files("atelier.workflows") / "builtin" / "style_change"
    (folder / "style_change").mkdir()
    for file in shipped.iterdir():
        data = file.read_bytes()
        if file.name == "manifest.json":
            manifest = json.loads(data)
            for entry in manifest["inputs"]:
                if entry["name"] in ("megapixels", "steps"):
                    entry["default"] = {"megapixels": 0.01, "steps": 2}[entry["name"]]
            data = json.dumps(manifest).encode()
        (folder / "style_change" / file.name).write_bytes(data)
    return new_up(
        ATELIER_FETCH_ALLOW="127.0.0.1",
        ATELIER_WORKFLOWS_DIR=str(folder),
        ATELIER_EMBEDDED_ENGINE="never",
        COMFYUI_URLS=comfyui_url,
    ).start()


def bring_home(node, caller, base, folder, photo):
    ran = subprocess.run(
        [*node, str(CALLERS / f"{caller}.mjs"), base, str(folder), str(photo)],
        capture_output=True, text=True, timeout=240, check=False,
    )  # fmt: skip
    assert ran.returncode == 0, ran.stderr
    assert {path.name for path in folder.glob("*.png")} == PICTURES[caller]
    for path in folder.glob("*.png"):
        with Image.open(path) as picture:
            picture.load()


@pytest.mark.parametrize("caller", PICTURES)
def test_node_caller_brings_its_pictures_home(node, caller, up, tmp_path, small_photo):
    bring_home(node, caller, up.base, tmp_path, small_photo)


@pytest.mark.parametrize("caller", PICTURES)
def test_node_caller_brings_its_pictures_home_from_a_comfyui(
    node, caller, up_with_comfyui, tmp_path, small_photo
):
    bring_home(node, caller, up_with_comfyui.base, tmp_path, small_photo)


def test_python_back_end_of_an_app_polls_and_keeps_the_picture(up, tmp_path, small_photo):
    def call(path, body=None):
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(up.base + path, data, {"Content-Type": "application/json"})
        with urllib.request.urlopen(request, timeout=30) as answer:
            return json.loads(answer.read())

    started = call(
        "/api/v1/transform",
        {"user_id": "ada", "image_url": data_url(small_photo), "style_type": "clay"},
    )
    assert started["status"] == "pending"
    deadline = time.monotonic() + 60
    while True:
        task = call(f"/api/v1/task/{started['task_id']}")
        if task["status"] in ("completed", "failed", "cancelled"):
            break
        assert task["status"] in ("pending", "processing")
        assert time.monotonic() < deadline, task
        time.sleep(0.1)
    assert (task["status"], task["progress"], task["user_id"]) == ("completed", 100, "ada")
    kept = tmp_path / "clay.png"
    with urllib.request.urlopen(task["output_image_url"], timeout=30) as answer:
        kept.write_bytes(answer.read())
    with Image.open(kept) as picture, Image.open(small_photo) as photo:
        assert picture.size == photo.size


def data_url(path):
    return f"data:image/jpeg;base64,{base64.b64encode(path.read_bytes()).decode()}"
