"""`atelier` as processes, and the ComfyUI to check against where there is one."""

import base64
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from services import Part, Up, environment, free_port

from atelier.examples import example_picture


@pytest.fixture(scope="module")
def new_part(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., Part]]:
    made: list[Part] = []

    def new(*command: str, **variables: str) -> Part:
        made.append(Part(tmp_path_factory.mktemp("part"), *command, **variables))
        return made[-1]

    yield new
    for part in reversed(made):
        part.end()


@pytest.fixture(scope="module")
def new_up(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., Up]]:
    made: list[Up] = []

    def new(**variables: str) -> Up:
        made.append(Up(tmp_path_factory.mktemp("up"), **variables))
        return made[-1]

    yield new
    for up in made:
        up.end()


@pytest.fixture(scope="module")
def up(new_up: Callable[..., Up]) -> Up:
    """One service for all tests of a module."""
    return new_up().start()


@pytest.fixture
def small_photo(tmp_path: Path) -> Path:
    """A photo that takes no time, in a file of the test's own folder."""
    path = tmp_path / "photo.jpg"
    path.write_bytes(base64.b64decode(example_picture().partition(",")[2]))
    return path


@pytest.fixture
def port() -> int:
    """A port that nobody uses."""
    return free_port()


@pytest.fixture
def atelier() -> Callable[..., subprocess.CompletedProcess[str]]:
    """Run `atelier ARGUMENTS` to its end, with no settings but those given."""

    def run(*arguments: str, cwd: Path, **variables: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "atelier", *arguments],
            cwd=cwd,
            env=environment(**variables),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=90,
            check=False,
        )

    return run


@pytest.fixture(scope="module")
def node() -> list[str]:
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


def _comfyui_url() -> str:
    named = os.environ.get("ATELIER_TEST_COMFYUI_URL") or os.environ.get("COMFYUI_URLS", "")
    return named.split(",")[0].strip().rstrip("/")


@pytest.fixture(scope="session")
def comfyui_url() -> str:
    """A ComfyUI that somebody runs; without one the test is skipped, by name and reason."""
    url = _comfyui_url()
    if not url:
        pytest.skip("no ComfyUI to check against: set ATELIER_TEST_COMFYUI_URL or COMFYUI_URLS")
    return url
