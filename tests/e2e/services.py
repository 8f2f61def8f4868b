"""`atelier` as processes, with no settings but those given."""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import orjson
from pydantic import AliasChoices

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

    def until(self, it_is_so: Callable[[], bool]) -> None:
        deadline = time.monotonic() + START_SECONDS
        while not it_is_so():
            assert self.process.poll() is None, self.said
            assert time.monotonic() < deadline, self.said
            time.sleep(0.02)

    def until_it_says(self, text: str) -> None:
        self.until(lambda: text in self.said)

    def end(self) -> None:
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(20)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait(10)


def answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=5) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False
