"""Callers in Node, as people have them today, and the pictures that each brings home."""

import subprocess
from pathlib import Path

from PIL import Image

CALLERS = Path(__file__).parent / "callers"
# Each caller, and the pictures that it brings home.
PICTURES = {
    "transform": {"anime.png", "clay.png"},
    "tasks": {"cartoon.png", "inverted.png"},
    "studio": {"studio-0.png", "studio-1.png"},
    "workflow_service": {"downloaded.png", "by-url.png", "listed.png"},
}


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
