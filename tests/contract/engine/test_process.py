"""The engine as a process of its own: start, announcement, end."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.request import Request, urlopen

import aiohttp
import pytest

PATIENCE_SECONDS = 20

Start = Callable[..., subprocess.Popen[bytes]]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Start an engine with further arguments; it is killed at the end if it still runs."""
    processes = []

    def run(*arguments: str, root: Path | None = None) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", "atelier.engine", "--root", str(root or tmp_path / "e")]
        process = subprocess.Popen([*command, *arguments], stderr=subprocess.PIPE)
        processes.append(process)
        return process

    yield run
    for process in processes:
        if process.poll() is None:
            process.kill()
        process.communicate()


def announced(path: Path) -> dict[str, object]:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not path.exists():
        assert time.monotonic() < deadline, "the engine didn't start"
        time.sleep(0.01)
    return json.loads(path.read_text())


def post(url: str, body: object) -> None:
    data = json.dumps(body).encode()
    with urlopen(Request(url, data), timeout=PATIENCE_SECONDS) as response:
        assert response.status == 200


def get(url: str) -> dict[str, list[object]]:
    with urlopen(url, timeout=PATIENCE_SECONDS) as response:
        return json.load(response)


def test_sigterm_ends_a_busy_engine_cleanly_within_seconds(start, tmp_path):
    file = tmp_path / "announce.json"
    process = start("--port", "0", "--announce", str(file))
    told = announced(file)
    assert told["pid"] == process.pid
    url = str(told["url"])
    graph = {
        "1": {
            "class_type": "EmptyImage",
            "inputs": {"width": 1600, "height": 1200, "batch_size": 8, "color": 7},
        },
        "2": {
            "class_type": "AtelierStylise",
            "inputs": {"image": ["1", 0], "style": "oil_painting", "strength": 1, "seed": 1},
        },
        "3": {"class_type": "PreviewImage", "inputs": {"images": ["2", 0]}},
    }
    post(f"{url}/prompt", {"prompt": graph})
    while not get(f"{url}/queue")["queue_running"]:
        time.sleep(0.01)
    time.sleep(0.3)
    began = time.monotonic()
    process.send_signal(signal.SIGTERM)
    assert process.wait(PATIENCE_SECONDS) == 0
    assert time.monotonic() - began < 5
    assert not file.exists()


def test_engine_that_nobody_needs_ends_by_itself(start, tmp_path):
    file = tmp_path / "announce.json"
    process = start("--port", "0", "--announce", str(file), "--linger", "0.2")
    assert process.wait(PATIENCE_SECONDS) == 0
    assert not file.exists()


def test_taken_port_gets_a_sentence_and_exit_code_2(start):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        process = start("--port", str(taken.getsockname()[1]))
        _, errors = process.communicate(timeout=PATIENCE_SECONDS)
    assert process.returncode == 2
    assert errors.startswith(b"Can't listen on 127.0.0.1:")
    assert b"Traceback" not in errors


def test_unusable_root_gets_a_sentence_and_exit_code_2(start, tmp_path):
    (tmp_path / "file").write_bytes(b"")
    process = start("--port", "0", root=tmp_path / "file")
    _, errors = process.communicate(timeout=PATIENCE_SECONDS)
    assert process.returncode == 2
    assert errors.startswith(b"Can't write to")
    assert b"Traceback" not in errors


def test_importing_the_package_loads_no_image_library():
    code = (
        "import sys, atelier.engine\n"
        "print([name for name in ('numpy', 'cv2', 'PIL', 'aiohttp') if name in sys.modules])"
    )
    environment = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1"}
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, check=True, env=environment
    )
    assert result.stdout.strip() == b"[]"


async def test_sigterm_does_not_wait_for_a_client_that_never_reads(start, tmp_path):
    file = tmp_path / "announce.json"
    process = start("--port", "0", "--announce", str(file))
    url = str(announced(file)["url"])
    async with aiohttp.ClientSession() as http:
        for name in ("a", "b"):
            await http.ws_connect(f"{url}/ws?clientId={name}")
        began = time.monotonic()
        process.send_signal(signal.SIGTERM)
        assert process.wait(PATIENCE_SECONDS) == 0
        assert time.monotonic() - began < 3
