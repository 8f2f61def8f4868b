"""`atelier` as processes, and the ComfyUI to check against where there is one."""

import base64
import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import orjson
import pytest
from pydantic import AliasChoices

from atelier.examples import example_picture
from atelier.settings import Settings

START_SECONDS = 60.0


def _own_variables() -> set[str]:
    names: set[str] = set()
    for field in Settings.model_fields.values():
        alias = field.validation_alias
        names |= set(alias.choices) if isinstance(alias, AliasChoices) else {str(alias)}  # type: ignore[arg-type]
    return names


def environment(**variables: str) -> dict[str, str]:
    """This process's environment without any setting of ours but ``variables``."""
    kept = {name: value for name, value in os.environ.items() if name not in _own_variables()}
    return {**kept, "COLUMNS": "200", **variables}


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Up:
    """`atelier up` in a folder of its own; ``said`` is what it wrote to stderr so far."""

    def __init__(self, folder: Path, **variables: str) -> None:
        self.folder = folder
        self.port = free_port()
        self.base = f"http://127.0.0.1:{self.port}"
        self.variables = {
            "PORT": str(self.port),
            "HOST": "127.0.0.1",
            "ATELIER_EMBEDDED_ENGINE": "always",
            **variables,
        }
        self.process: subprocess.Popen[bytes] | None = None
        self._log = folder / "stderr.log"

    def start(self) -> "Up":
        with self._log.open("wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "atelier", "up"],
                cwd=self.folder,
                env=environment(**self.variables),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        deadline = time.monotonic() + START_SECONDS
        while "Try it" not in self.said:
            assert self.process.poll() is None, self.said
            assert time.monotonic() < deadline, self.said
            time.sleep(0.05)
        return self

    @property
    def said(self) -> str:
        return self._log.read_text(errors="replace")

    @property
    def engine(self) -> dict[str, Any]:
        """What the embedded engine announced: url and pid."""
        return orjson.loads((self.folder / "data" / "engine" / "engine.json").read_bytes())

    def kill(self) -> None:
        """SIGKILL: the engine stays."""
        assert self.process is not None
        self.process.kill()
        self.process.wait(10)

    def stop(self) -> tuple[int, float]:
        """SIGTERM; the exit code, and the seconds until it was gone."""
        assert self.process is not None
        started = time.monotonic()
        self.process.send_signal(signal.SIGTERM)
        code = self.process.wait(30)
        return code, time.monotonic() - started

    def end(self) -> None:
        """Leave nothing behind, whatever happened before."""
        if self.process is not None and self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(20)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait(10)
        if (self.folder / "data" / "engine" / "engine.json").exists():
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.engine["pid"], signal.SIGTERM)


class Part:
    """A command of ours that stays, in a folder of its own; ``said`` is what it wrote so far."""

    def __init__(self, folder: Path, *command: str, **variables: str) -> None:
        self._log = folder / "said.log"
        with self._log.open("wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", *command],
                cwd=folder,
                env=environment(**variables),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )

    @property
    def said(self) -> str:
        return self._log.read_text(errors="replace")

    def until_it_says(self, text: str) -> None:
        deadline = time.monotonic() + START_SECONDS
        while text not in self.said:
            assert self.process.poll() is None, self.said
            assert time.monotonic() < deadline, self.said
            time.sleep(0.02)

    def end(self) -> None:
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(20)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait(10)


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
