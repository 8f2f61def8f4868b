import json
from pathlib import Path
from typing import Any

import pytest

from atelier.comfy.object_info import ObjectInfo
from atelier.engine.folders import Folders
from atelier.engine.nodes import NODES
from atelier.workflows.library import Library, Workflow

GOLDEN = Path(__file__).parents[2] / "golden"


@pytest.fixture(scope="session")
def object_info_json() -> dict[str, Any]:
    return json.loads((GOLDEN / "object_info.json").read_text())


@pytest.fixture(scope="session")
def object_info(object_info_json: dict[str, Any]) -> ObjectInfo:
    """A real ComfyUI with two checkpoints, example.png and broken.png."""
    return ObjectInfo.parse(object_info_json)


@pytest.fixture(scope="session")
def classic_info(tmp_path_factory: pytest.TempPathFactory) -> ObjectInfo:
    """The embedded engine with example.png: the classic node, and nothing for diffusion."""
    folders = Folders(tmp_path_factory.mktemp("engine"))
    (folders.root / "input" / "example.png").write_bytes(b"")
    return ObjectInfo.parse({name: node.info(folders) for name, node in NODES.items()})


@pytest.fixture(scope="session")
def library() -> Library:
    return Library()


@pytest.fixture(scope="session")
def style_change(library: Library) -> Workflow:
    return library.get("style_change")


@pytest.fixture
def trivial() -> dict[str, Any]:
    """EmptyImage -> SaveImage, the smallest graph that runs."""
    return {
        "1": {
            "class_type": "EmptyImage",
            "inputs": {"width": 64, "height": 64, "batch_size": 1, "color": 1},
        },
        "2": {
            "class_type": "SaveImage",
            "inputs": {"filename_prefix": "e", "images": ["1", 0]},
        },
    }
