"""Callers of the dialects, in Node and in Python, as people have them today."""

import base64
import json
import time
import urllib.request
from importlib.resources import files
from urllib.parse import urljoin

import pytest
from node_callers import PICTURES, bring_home
from PIL import Image


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


@pytest.mark.parametrize("caller", PICTURES)
def test_node_caller_brings_its_pictures_home(node, caller, up, tmp_path, small_photo):
    bring_home(node, caller, up.base, tmp_path, small_photo)


@pytest.mark.parametrize("caller", PICTURES)
def test_node_caller_brings_its_pictures_home_from_a_comfyui(
    node, caller, up_with_comfyui, tmp_path, small_photo
):
    bring_home(node, caller, up_with_comfyui.base, tmp_path, small_photo)


class Client:
    """Plain JSON over HTTP, as the standard library has it."""

    def __init__(self, base):
        self.base = base

    def call(self, path, body=None):
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(
            self.base + path, data, {"Content-Type": "application/json"}
        )
        with urllib.request.urlopen(request, timeout=30) as answer:
            return json.loads(answer.read())

    def wait(self, path, ended):
        deadline = time.monotonic() + 150
        while (told := self.call(path))["status"] not in ended:
            assert time.monotonic() < deadline, told
            time.sleep(0.1)
        return told

    def picture(self, url, path):
        """The picture at ``url``, kept as the file ``path``."""
        with urllib.request.urlopen(urljoin(self.base, url), timeout=30) as answer:
            path.write_bytes(answer.read())
        with Image.open(path) as picture:
            picture.load()
            return picture


def transform(client, photo, folder):
    """The back end of an app: a picture's address, polled until it is stylised."""
    started = client.call(
        "/api/v1/transform", {"user_id": "ada", "image_url": data_url(photo), "style_type": "clay"}
    )
    assert started["status"] == "pending"
    task = client.wait(f"/api/v1/task/{started['task_id']}", ("completed", "failed", "cancelled"))
    assert (task["status"], task["progress"], task["user_id"]) == ("completed", 100, "ada"), task
    return client.picture(task["output_image_url"], folder / "clay.png")


def tasks(client, photo, folder):
    """An application: a named workflow with its inputs."""
    inputs = {"image": data_url(photo), "style": "anime", "seed": 5}
    created = client.call("/api/tasks/create", {"workflow": "style_change", "inputs": inputs})
    assert created["status"] == "pending"
    task = client.wait(f"/api/tasks/{created['task_id']}", ("completed", "failed", "cancelled"))
    assert (task["status"], task["progress"], task["error"]) == ("completed", 100, None), task
    (image,) = task["result"]["images"]
    return client.picture(image["url"], folder / "anime.png")


def studio(client, photo, folder):
    """A designer's tool: pictures in base64, and the record in the history."""
    started = client.call(
        "/api/generate",
        {"workflow": "style_change", "seed": -1, "images": {"source": data_url(photo)}},
    )
    assert started["status"] == "queued"
    job = client.wait(f"/api/status/{started['job_id']}", ("finished", "failed", "cancelled"))
    assert (job["status"], job["progress"]) == ("finished", 100), job
    newest = client.call("/api/history?limit=1&offset=0")["jobs"][0]
    assert (newest["id"], newest["output_path"]) == (started["job_id"], job["image_url"])
    return client.picture(job["image_url"], folder / "studio.png")


@pytest.mark.parametrize("caller", [transform, tasks, studio])
def test_python_caller_brings_its_picture_home(caller, up, tmp_path, small_photo):
    picture = caller(Client(up.base), small_photo, tmp_path)
    with Image.open(small_photo) as photo:
        assert picture.size == photo.size


@pytest.mark.parametrize("caller", [transform, tasks, studio])
def test_python_caller_brings_its_picture_home_from_a_comfyui(
    caller, up_with_comfyui, tmp_path, small_photo
):
    picture = caller(Client(up_with_comfyui.base), small_photo, tmp_path)
    assert picture.width * picture.height == pytest.approx(10_000, rel=0.3)


def data_url(path):
    return f"data:image/jpeg;base64,{base64.b64encode(path.read_bytes()).decode()}"
