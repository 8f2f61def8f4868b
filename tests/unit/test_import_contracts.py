"""The contracts of the rooms hold, and would notice if they didn't."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
LINT = Path(sys.executable).parent / "lint-imports"

pytestmark = pytest.mark.skipif(not LINT.exists(), reason="import-linter isn't installed")


@pytest.fixture(scope="module")
def tree(tmp_path_factory):
    """A copy of the package to spoil."""
    folder = tmp_path_factory.mktemp("tree")
    shutil.copytree(
        ROOT / "src" / "atelier",
        folder / "atelier",
        ignore=shutil.ignore_patterns("__pycache__", "*.jpg", "*.json"),
    )
    shutil.copy(ROOT / ".importlinter", folder / ".importlinter")
    return folder


def lint(folder):
    return subprocess.run(
        [LINT, "--no-cache"],
        cwd=folder,
        env={"PYTHONPATH": str(folder), "PATH": "/usr/bin:/bin", "COLUMNS": "200"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_tree_as_it_is_keeps_all_contracts(tree):
    result = lint(tree)
    assert result.returncode == 0, result.stdout
    assert "0 broken" in result.stdout


@pytest.mark.parametrize(
    ("file", "line", "contract"),
    [
        ("jobs/job.py", "import asyncio", "Pure modules"),
        ("events/event.py", "import time", "Pure modules"),
        ("service/generations.py", "from atelier import api", "Imports point down only"),
        ("comfy/client.py", "from atelier.pool import pool", "Imports point down only"),
        ("jobs/queue.py", "from atelier.media import fetch", "Imports point down only"),
        ("engine/server.py", "from atelier.comfy import client", "The engine is a stranger"),
        ("api/native/jobs.py", "from atelier.api import transform", "Dialects"),
        ("worker/run.py", "from atelier import settings", "Only app and cli read settings"),
        ("service/assets.py", "from atelier.storage import objects", "Concrete adapters"),
        ("helpers.py", "import json", "Imports point down only"),
    ],
)
def test_planted_violation_is_caught(tree, file, line, contract):
    path = tree / "atelier" / file
    before = path.read_text() if path.exists() else None
    path.write_text(f"{before or ''}\n{line}\n")
    try:
        result = lint(tree)
    finally:
        if before is None:
            path.unlink()
        else:
            path.write_text(before)
    assert result.returncode != 0, f"{line!r} in {file} went unnoticed"
    assert contract in result.stdout
