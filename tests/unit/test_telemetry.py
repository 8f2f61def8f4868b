"""What is logged, where, and what never is."""

import contextlib
import io
import logging
import sys

import orjson
import pytest
import structlog

from atelier.errors import ConfigurationError
from atelier.telemetry import configure_logging, log_files, logs


@pytest.fixture(autouse=True)
def as_before():
    root = logging.getLogger()
    handlers, level, config = root.handlers[:], root.level, structlog.get_config()
    processors = config["processors"][:]
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    structlog.configure(**config)
    config["processors"][:] = processors


@pytest.fixture
def log(tmp_path):
    """Configures and returns a logger; files are closed at the end."""
    with contextlib.ExitStack() as stack:

        def configure(log_format="plain", *, name="app", stream=None, secrets=()):
            configure_logging(log_format=log_format, stream=stream, secrets=secrets)
            stack.enter_context(log_files(tmp_path, name, log_format, secrets=secrets))
            return structlog.get_logger("t")

        yield configure


def lines(folder, name="app"):
    return (folder / f"{name}.log").read_text("utf-8").splitlines()


def test_lines_go_to_the_console_and_to_a_file_in_utf_8(log, tmp_path, capsys):
    log(stream=sys.stdout).info("done", job="j1", prompt="黏土风格")
    console = capsys.readouterr().out.strip()
    assert "job=j1" in console
    assert "黏土风格" in console
    assert lines(tmp_path) == [console]


def test_json_lines_carry_the_stack_trace(log, tmp_path):
    logger = log("json")
    try:
        raise RuntimeError("broken")
    except RuntimeError:
        logger.exception("failed", job="j1")
    (line,) = lines(tmp_path)
    assert orjson.loads(line)["job"] == "j1"
    assert "RuntimeError: broken" in orjson.loads(line)["exception"]


def test_file_is_turned_over_and_three_older_ones_are_kept(log, tmp_path, monkeypatch):
    monkeypatch.setattr(logs, "FILE_BYTES", 2_000)
    logger = log()
    for number in range(200):
        logger.info("line", number=number)
    kept = sorted(tmp_path.glob("app.log*"))
    assert [path.name for path in kept] == ["app.log", "app.log.1", "app.log.2", "app.log.3"]
    assert all(path.stat().st_size <= 2_000 for path in kept)
    assert "number=199" in lines(tmp_path)[-1]


def test_second_process_in_the_folder_gets_a_file_of_its_own(log, tmp_path):
    with log_files(tmp_path, "worker"):
        log(name="worker").warning("from both")
    assert "from both" in lines(tmp_path, "worker-2")[0]


def test_next_process_goes_on_with_the_file(tmp_path):
    configure_logging()
    for number in range(2):
        with log_files(tmp_path, "app"):
            structlog.get_logger("t").info("line", number=number)
    assert [line[-8:] for line in lines(tmp_path)] == ["number=0", "number=1"]


def test_logger_used_before_follows_a_new_configuration(capsys):
    configure_logging(stream=sys.stdout)
    logger = structlog.get_logger("early").bind(part="early")
    logger.info("one")
    configure_logging(log_format="json", stream=sys.stdout)
    with structlog.testing.capture_logs() as captured:
        logger.info("two")
    assert captured == [{"event": "two", "part": "early", "log_level": "info"}]
    assert "one" in capsys.readouterr().out


def test_folder_that_is_a_file_is_said_in_a_sentence(tmp_path):
    (tmp_path / "logs").write_text("")
    with (
        pytest.raises(ConfigurationError, match="Logs can't be written to") as caught,
        log_files(tmp_path / "logs", "app"),
    ):
        pass
    assert "ATELIER_LOG_DIR" in caught.value.hint


class FullDisk(io.StringIO):
    def write(self, text):
        raise OSError(28, "No space left on device")


def test_full_disk_is_told_once_and_the_console_goes_on(log, capsys):
    logger = log(stream=sys.stdout)
    handler = logging.getLogger().handlers[-1]
    handler.stream.close()
    handler.stream = FullDisk()
    for _ in range(3):
        logger.info("line")
    said = capsys.readouterr()
    assert said.out.count("line") == 3
    assert said.err.count("No space left on device") == 1


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("postgresql://atelier:hunter2@db/atelier", "postgresql://atelier:***@db/atelier"),
        # without a password there is nothing to hide
        ("http://user@host/path", "http://user@host/path"),
        ("http://127.0.0.1:8188/view", "http://127.0.0.1:8188/view"),
        (
            "GET https://s3/b/k?X-Amz-Signature=abc&X-Amz-Expires=60",
            "GET https://s3/b/k?X-Amz-Signature=***&X-Amz-Expires=60",
        ),
        ("Authorization: Bearer eyJhbGciOi.abc-def", "Authorization: Bearer ***"),
        ("data:image/png;base64," + "A" * 64, "data:image/png;base64,***"),
        ("key AKIAEXAMPLEKEY here", "key *** here"),
    ],
)
def test_secrets_are_not_logged(text, shown, log, tmp_path):
    log(secrets=["AKIAEXAMPLEKEY", "short"])
    logging.getLogger("library").warning("%s", text)
    assert shown in lines(tmp_path)[0]


def test_secrets_are_not_logged_in_stack_traces(log, tmp_path):
    logger = log(secrets=["correct horse"])
    try:
        raise ValueError("the password 'correct horse' is wrong")
    except ValueError:
        logger.exception("login failed")
    text = (tmp_path / "app.log").read_text()
    assert "ValueError: the password '***' is wrong" in text
