from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from atelier.engine.executor import Interrupted
from atelier.engine.folders import Folders
from atelier.engine.nodes import NODES
from atelier.engine.nodes.node import Bytes


class RecordingContext:
    """The context of a node that runs alone; notes what the client would be told."""

    def __init__(self, folders: Folders) -> None:
        self.folders = folders
        self.prompt: Mapping[str, Any] = {"1": {"class_type": "SaveImage", "inputs": {}}}
        self.extra_pnginfo: Mapping[str, Any] = {"workflow": {"nodes": []}}
        self.steps: list[tuple[int, int]] = []
        self.pictures: list[Bytes] = []
        self.previews: list[Bytes] = []
        self.interrupt_after_steps: int | None = None

    def check_interrupted(self) -> None:
        if self.interrupt_after_steps is not None and len(self.steps) >= self.interrupt_after_steps:
            raise Interrupted

    def progress(self, value: int, maximum: int, picture: Bytes | None = None) -> None:
        self.check_interrupted()
        self.steps.append((value, maximum))
        if picture is not None:
            self.pictures.append(picture)

    def preview(self, picture: Bytes) -> None:
        self.previews.append(picture)

    def run(self, node: str, **inputs: Any) -> tuple[Any, ...]:
        chosen = NODES[node]
        output = chosen.run(self, **inputs) if chosen.contextual else chosen.run(**inputs)
        return output.values if output.ui is None else (output.ui,)


@pytest.fixture
def folders(tmp_path: Path) -> Folders:
    return Folders(tmp_path / "engine")


@pytest.fixture
def context(folders: Folders) -> RecordingContext:
    return RecordingContext(folders)


@pytest.fixture
def photo() -> np.ndarray:
    """A picture of noise, 1x40x60x3."""
    return np.random.default_rng(3).random((1, 40, 60, 3), dtype=np.float32)
