"""An application that speaks the tasks dialect with nothing but the standard library."""

import base64
import json
import threading
import time
import urllib.error
import urllib.request
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urljoin

import pytest
from PIL import Image
from standardwebhooks import Webhook

from atelier.examples import example_picture
from atelier.webhooks.signing import new_secret

PATIENCE_SECONDS = 60.0
SECRET = new_secret(lambda count: bytes(range(count)))
SMALL_PHOTO = base64.b64decode(example_picture().partition(",")[2])


class Caller:
    """What the examples of such an application do: JSON over HTTP, and polling."""

    def __init__(self, base):
        self.base = base

    def call(self, method, path, body=None):
        data = None if body is None else json.dumps(body).encode()
        headers = {"Content-Type": "application/json"}
        request = urllib.request.Request(urljoin(self.base, path), data, headers, method=method)
        with urllib.request.urlopen(request, timeout=30) as answer:
            return json.loads(answer.read())

    def create(self, **body):
        made = self.call("POST", "/api/tasks/create", body)
        assert made["status"] == "pending"
        return made["task_id"]

    def wait(self, task_id):
        deadline = time.monotonic() + PATIENCE_SECONDS
        while True:
            task = self.call("GET", f"/api/tasks/{task_id}")
            if task["status"] in ("completed", "failed", "cancelled"):
                return task
            assert task["status"] in ("pending", "processing")
            assert time.monotonic() < deadline, task
            time.sleep(0.05)

    def download(self, url, path):
        with urllib.request.urlopen(url, timeout=30) as answer:
            path.write_bytes(answer.read())
        return path


class Hooks:
    """A receiver of webhooks, and a server of one picture."""

    def __init__(self):
        hooks = self
        self.got = []

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self):
                body = self.rfile.read(int(self.headers["Content-Length"]))
                hooks.got.append((dict(self.headers), body))
                self.send_response(204)
                self.end_headers()

            def do_GET(self):
                self.send_response(200)
                self.end_headers()
                self.wfile.write(SMALL_PHOTO)

            def log_message(self, *_):
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.base = f"http://127.0.0.1:{self.server.server_port}"
        self.thread = threading.Thread(target=self.server.serve_forever, daemon=True)
        self.thread.start()

    def close(self):
        self.server.shutdown()
        self.thread.join()
        self.server.server_close()

    def first(self):
        deadline = time.monotonic() + PATIENCE_SECONDS
        while not self.got:
            assert time.monotonic() < deadline, "no webhook came"
            time.sleep(0.05)
        return self.got[0]


@pytest.fixture(scope="module")
def hooks():
    hooks = Hooks()
    yield hooks
    hooks.close()


@pytest.fixture(scope="module")
def up(new_up):
    return new_up(
        ATELIER_FETCH_ALLOW="127.0.0.1", APP_ENV="staging", ATELIER_WEBHOOK_SECRET=SECRET
    ).start()


@pytest.fixture
def caller(up):
    return Caller(up.base)


def test_named_workflow_from_a_remote_picture_to_the_file(caller, hooks, tmp_path):
    task_id = caller.create(
        workflow="style_change",
        inputs={"image": f"{hooks.base}/photo.jpg", "style": "cartoon", "seed": 5},
        priority=10,
        max_retries=1,
        webhook_url=f"{hooks.base}/done",
        metadata={"order": 4711},
    )
    task = caller.wait(task_id)
    assert task["status"] == "completed", task["error"]
    assert (task["progress"], task["retries"], task["error"]) == (100, 0, None)
    assert task["metadata"] == {"order": 4711}
    assert task["result"]["metadata"]["seed"] == 5
    (image,) = task["result"]["images"]
    path = caller.download(task["result"]["image_urls"][0], tmp_path / "cartoon.png")
    with Image.open(path) as picture:
        assert picture.size == (image["width"], image["height"])
        assert picture.convert("L").getextrema()[0] < picture.convert("L").getextrema()[1]
    headers, body = hooks.first()
    payload = Webhook(SECRET).verify(body, headers)
    assert payload["type"] == "job.succeeded"
    assert payload["data"]["task_id"] == task_id
    url = payload["data"]["result"]["image_urls"][0]
    again = caller.download(url, tmp_path / "again.png")
    assert again.read_bytes() == path.read_bytes()


def test_whole_graph_with_inputs_by_node(caller, tmp_path):
    graph = {
        "1": {"class_type": "LoadImage", "inputs": {"image": "example.png"}},
        "2": {"class_type": "ImageInvert", "inputs": {"image": ["1", 0]}},
        "9": {"class_type": "SaveImage", "inputs": {"images": ["2", 0], "filename_prefix": "x"}},
    }
    task = caller.wait(caller.create(workflow=graph, inputs={"1.image": example_picture()}))
    assert task["status"] == "completed", task["error"]
    path = caller.download(task["result"]["image_urls"][0], tmp_path / "inverted.png")
    with Image.open(path) as picture:
        assert picture.format == "PNG"


def test_picture_that_is_none_fails_with_a_reason(caller):
    task = caller.wait(
        caller.create(
            workflow="style_change", inputs={"image": "data:text/plain,hello"}, max_retries=3
        )
    )
    assert (task["status"], task["retries"], task["result"]) == ("failed", 0, None)
    assert task["error"]["code"] == "NOT_AN_IMAGE"


def test_state_of_service_and_instances(caller):
    assert caller.call("GET", "/api/health")["status"] == "ok"
    status = caller.call("GET", "/api/status")
    assert status["environment"] == "staging"
    assert status["instances"][0]["connections"] == 1
    (system,) = caller.call("GET", "/api/comfyui-system-stats")["instances"]
    assert system["version"]
    assert system["ram"]["total"] >= system["ram"]["free"] > 0
    assert system["devices"][0]["type"] == "cpu"
    queue = caller.call("GET", "/api/comfyui-queue-status")
    assert (queue["running"], queue["pending"]) == (0, 0)
    assert queue["instances"][0]["error"] is None
    stopped = caller.call("POST", "/api/comfyui-interrupt")
    assert (stopped["interrupted"], stopped["count"]) == ([], 0)


def test_mistakes_are_told_with_code_and_field(caller):
    with pytest.raises(urllib.error.HTTPError) as caught:
        caller.create(workflow="style_change", inputs={}, priority="urgent")
    assert caught.value.code == 422
    error = json.loads(caught.value.read())["error"]
    assert (error["code"], error["fields"][0]["field"]) == ("INVALID_REQUEST", "priority")
    with pytest.raises(urllib.error.HTTPError) as caught:
        caller.call("GET", "/api/tasks/unknown")
    assert (caught.value.code, json.loads(caught.value.read())["error"]["code"]) == (
        404,
        "JOB_UNKNOWN",
    )
