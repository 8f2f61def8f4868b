"""Where a ComfyUI is, with which Python it is run, and how its log is kept short."""

import random
import sys
from pathlib import Path

import pytest

from atelier.errors import ConfigurationError
from atelier.pool.supervisor import logs
from atelier.pool.supervisor.backoff import Backoff
from atelier.pool.supervisor.checkout import checked_arguments, find_checkout


@pytest.fixture
def checkout(tmp_path):
    folder = tmp_path / "somewhere" / "ComfyUI"
    folder.mkdir(parents=True)
    (folder / "main.py").touch()
    return folder


def program(path):
    path.parent.mkdir(parents=True)
    path.touch(0o755)
    return path


IN_ENVIRONMENT = "Scripts/python.exe" if sys.platform == "win32" else "bin/python"


@pytest.mark.parametrize(
    "place",
    [
        f"ComfyUI/.venv/{IN_ENVIRONMENT}",
        f"ComfyUI/venv/{IN_ENVIRONMENT}",
        f"venv/{IN_ENVIRONMENT}",
        "python_embeded/python.exe",  # the portable build, whose folder may be given too
    ],
)
@pytest.mark.parametrize("given", ["ComfyUI", "."])
def test_python_is_found_where_installers_put_it(checkout, place, given):
    python = program(checkout.parent / place)
    found = find_checkout(checkout.parent / given)
    assert (found.folder, found.python) == (checkout, python)


def test_python_that_is_given_goes_first(checkout):
    program(checkout / ".venv" / IN_ENVIRONMENT)
    assert find_checkout(checkout, Path(sys.executable)).python == Path(sys.executable)


def test_what_is_missing_is_told(checkout, tmp_path):
    for path, said in ((tmp_path / "no", "is no folder"), (tmp_path, "has no main.py")):
        with pytest.raises(ConfigurationError, match=said):
            find_checkout(path)
    with pytest.raises(ConfigurationError) as caught:
        find_checkout(checkout)
    assert str(checkout / ".venv") in caught.value.message
    assert "--comfyui-python" in caught.value.hint
    with pytest.raises(ConfigurationError, match="no Python that can be run"):
        find_checkout(checkout, checkout / "main.py")


def test_options_that_a_version_has(checkout):
    (checkout / "comfy").mkdir()
    (checkout / "comfy" / "cli_args.py").write_text('parser.add_argument("--database-url")')
    found = find_checkout(checkout, Path(sys.executable))
    assert found.knows("--database-url")
    assert not found.knows("--database")


@pytest.mark.parametrize("argument", ["--port", "--listen=0.0.0.0", "--cuda-device"])
def test_address_and_device_are_ours_to_choose(argument):
    with pytest.raises(ConfigurationError, match=argument.partition("=")[0]):
        checked_arguments(("--lowvram", argument))
    assert checked_arguments(("--lowvram",)) == ("--lowvram",)


def test_log_is_turned_over_while_it_is_written(tmp_path):
    path = tmp_path / "comfyui.log"
    with path.open("ab", buffering=0) as writer:
        for number in range(4):
            writer.write(b"x" * 100 + b"%d\n" % number)
            assert logs.rotate(path, max_bytes=100, old_files=2)
        assert not logs.rotate(path, max_bytes=100, old_files=2)
        writer.write(b"goes on\n")
    assert path.read_bytes() == b"goes on\n"
    assert (tmp_path / "comfyui.log.1").read_bytes().endswith(b"3\n")
    assert sorted(one.name for one in tmp_path.iterdir()) == [
        "comfyui.log", "comfyui.log.1", "comfyui.log.2",
    ]  # fmt: skip


def test_last_lines_are_those_of_this_start(tmp_path):
    path = tmp_path / "comfyui.log"
    path.write_text("of before\n")
    start = logs.size_of(path)
    assert logs.last_lines(path, since=start) == []
    with path.open("a") as file:
        file.write("one\n\n  two  \nthree\n")
    assert logs.last_lines(path, 2, since=start) == ["two", "three"]
    assert logs.last_lines(path, since=10**6) == ["of before", "one", "two", "three"]
    assert logs.last_lines(tmp_path / "none") == []


def test_pauses_double_to_a_bound_with_jitter():
    backoff = Backoff(1.0, 60.0, random.Random(1))
    pauses = [backoff.next_seconds() for _ in range(2000)]
    for number, pause in enumerate(pauses):
        whole = min(2.0 ** min(number, 32), 60.0)
        assert whole / 2 <= pause <= whole
    assert len(set(pauses[10:30])) == 20
    backoff.reset()
    assert backoff.next_seconds() <= 1.0
