"""Names of workers: one holder at a time, and the same again after a crash."""

import subprocess
import sys

import pytest

from atelier.errors import ConfigurationError
from atelier.worker import identity
from atelier.worker.identity import worker_identity


def test_two_holders_have_two_names(tmp_path):
    with worker_identity(tmp_path) as first, worker_identity(tmp_path) as second:
        assert first != second


def test_name_is_the_same_after_its_release(tmp_path):
    with worker_identity(tmp_path) as first:
        pass
    with worker_identity(tmp_path) as again:
        assert again == first


def test_lowest_free_name_is_taken(tmp_path):
    with worker_identity(tmp_path) as first:
        with worker_identity(tmp_path) as second:
            pass
        with worker_identity(tmp_path) as third:
            assert third == second != first


def test_name_of_a_killed_process_is_free_again(tmp_path):
    script = (
        "import pathlib, sys, time\n"
        "from atelier.worker.identity import worker_identity\n"
        "with worker_identity(pathlib.Path(sys.argv[1])) as name:\n"
        "    print(name, flush=True)\n"
        "    time.sleep(60)\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", script, str(tmp_path)], stdout=subprocess.PIPE, text=True
    ) as process:
        name = process.stdout.readline().strip()
        with worker_identity(tmp_path) as other:
            assert other != name
        process.kill()
        process.wait()
    with worker_identity(tmp_path) as again:
        assert again == name


def test_too_many_workers_in_one_folder_is_a_sentence(tmp_path, monkeypatch):
    monkeypatch.setattr(identity, "SLOTS", 1)
    with (
        worker_identity(tmp_path),
        pytest.raises(ConfigurationError) as caught,
        worker_identity(tmp_path),
    ):
        pass
    assert str(tmp_path) in caught.value.message
