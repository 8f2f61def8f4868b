"""The commands, in this process: help, exit codes, sentences instead of stack traces."""

import json
import logging
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import typer
from PIL import Image, PngImagePlugin
from pydantic import AliasChoices
from sqlalchemy import create_engine, text
from typer.testing import CliRunner

from atelier import __version__
from atelier.app import listen
from atelier.cli import app, main
from atelier.cli.run import InputMalformed, parse_inputs
from atelier.cli.serve import curl_line
from atelier.settings import Settings


@pytest.fixture(autouse=True)
def clean(monkeypatch, tmp_path):
    """An empty folder, no settings, and the log handlers as they were."""
    for field in Settings.model_fields.values():
        alias = field.validation_alias
        for name in alias.choices if isinstance(alias, AliasChoices) else [alias]:
            monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setenv("PORT", "1")  # where no other service can be
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)


@pytest.fixture
def atelier(monkeypatch, capsys):
    """(exit code, stdout, stderr) of a command line."""

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["atelier", *arguments])
        with pytest.raises(SystemExit) as ended:
            main()
        out, err = capsys.readouterr()
        return ended.value.code or 0, out, err

    return run


def commands(group, path=()):
    """The path of every command below ``group``, and of the groups themselves."""
    yield path
    if isinstance(group, typer.core.TyperGroup):
        for name, command in group.commands.items():
            yield from commands(command, (*path, name))


COMMANDS = list(commands(typer.main.get_command(app)))


def test_commands_are_those_that_people_script_against():
    assert {path[0] for path in COMMANDS if path} == {
        "up", "api", "worker", "engine", "doctor", "migrate", "run", "workflows", "webhooks",
    }  # fmt: skip
    assert {path[1] for path in COMMANDS if len(path) == 2} == {
        "list", "show", "add", "remove", "check", "convert", "reference", "secret",
    }  # fmt: skip


@pytest.mark.parametrize("path", COMMANDS, ids=" ".join)
def test_help_of_every_command_has_an_example(path):
    result = CliRunner().invoke(app, [*path, "--help"])
    assert result.exit_code == 0
    assert "Example" in result.output
    assert "atelier" in result.output.partition("Example")[2]


def test_version(atelier):
    assert atelier("--version") == (0, f"atelier {__version__}\n", "")


def test_unknown_command_is_named(atelier):
    code, _, err = atelier("upp")
    assert code == 2
    assert "upp" in err


def test_workflows_are_listed(atelier):
    code, out, _ = atelier("workflows", "list")
    assert code == 0
    assert "style_change" in out


def test_workflow_is_shown_with_its_inputs(atelier):
    code, out, _ = atelier("workflows", "show", "style_change")
    assert code == 0
    for word in ("image", "required", "strength", "clay", "diffusion", "classic"):
        assert word in out


def test_a_workflow_is_added_to_the_data_folder_where_no_service_runs(atelier, tmp_path):
    graph = {
        "1": {"class_type": "EmptyImage", "inputs": {"width": 64, "height": 32, "batch_size": 1}},
        "2": {"class_type": "SaveImage", "inputs": {"images": ["1", 0], "filename_prefix": "a"}},
    }
    file = tmp_path / "Plain (API).json"
    file.write_text(json.dumps(graph))
    code, out, err = atelier("workflows", "add", str(file))
    assert code == 0, err
    assert "added: plain_api" in out
    assert "64x32" in out
    code, out, _ = atelier("workflows", "list")
    assert "plain_api" in out
    assert " own " in out


def test_a_file_that_is_no_workflow_is_refused_with_all_that_is_wrong(atelier, tmp_path):
    file = tmp_path / "broken.json"
    file.write_text('{"1": {"inputs": {}}, "2": []}')
    code, _, err = atelier("workflows", "add", str(file))
    assert code == 1
    assert "node 1 has no class_type" in err
    assert "node 2 is a list" in err


def test_unknown_workflow_lists_what_there_is(atelier):
    code, _, err = atelier("workflows", "show", "style_chang")
    assert code == 1
    assert "style_change" in err


GOLDEN = Path(__file__).parents[1] / "golden"
UI = GOLDEN / "convert" / "text_to_image.ui.json"
API = json.loads((GOLDEN / "convert" / "text_to_image.api.json").read_text())
KNOWN = ("--object-info", str(GOLDEN / "object_info.json"))


def test_ui_graph_is_printed_as_an_api_graph(atelier):
    code, out, _ = atelier("workflows", "convert", str(UI), *KNOWN)
    assert (code, json.loads(out)) == (0, API)


def test_api_graph_is_written_where_it_is_asked_for(atelier, tmp_path):
    code, out, _ = atelier("workflows", "convert", str(UI), *KNOWN, "-o", "api.json")
    assert (code, out) == (0, "")
    assert json.loads((tmp_path / "api.json").read_text()) == API


def test_what_is_converted_already_needs_nobody(atelier, tmp_path):
    (tmp_path / "api.json").write_text(json.dumps(API))
    code, out, _ = atelier("workflows", "convert", "api.json")
    assert (code, json.loads(out)) == (0, API)


@pytest.mark.parametrize("form", ["png", "webp"])
def test_graph_in_a_picture_is_found(form, atelier, tmp_path):
    picture, text = Image.new("RGB", (8, 8)), UI.read_text()
    if form == "png":
        more = PngImagePlugin.PngInfo()
        more.add_text("workflow", text)
        picture.save(tmp_path / "a.png", pnginfo=more)
    else:
        fields = picture.getexif()
        fields[0x010F] = f"workflow:{text}"
        picture.save(tmp_path / "a.webp", exif=fields)
    code, out, _ = atelier("workflows", "convert", f"a.{form}", *KNOWN)
    assert (code, json.loads(out)) == (0, API)


def test_what_a_picture_says_has_run_goes_first(atelier, tmp_path):
    more = PngImagePlugin.PngInfo()
    more.add_text("workflow", UI.read_text())
    more.add_text("prompt", json.dumps({**API, "9": {**API["7"], "is_changed": [float("nan")]}}))
    Image.new("RGB", (8, 8)).save(tmp_path / "a.png", pnginfo=more)
    code, out, _ = atelier("workflows", "convert", "a.png")
    assert (code, json.loads(out)) == (0, {**API, "9": {**API["7"], "is_changed": [None]}})


@pytest.mark.parametrize(
    ("name", "content", "told"),
    [
        ("none.json", None, "can't be read"),
        ("broken.json", b"{", "is not JSON"),
        ("broken.png", b"no picture", "can't be read as a picture"),
        ("list.json", b"[]", "not an object"),
    ],
)
def test_file_that_is_no_graph_is_told(name, content, told, atelier, tmp_path):
    if content is not None:
        (tmp_path / name).write_bytes(content)
    code, _, err = atelier("workflows", "convert", name, *KNOWN)
    assert code == 1
    assert told in err


def test_picture_without_a_graph_is_told(atelier, tmp_path):
    Image.new("RGB", (8, 8)).save(tmp_path / "a.png")
    code, _, err = atelier("workflows", "convert", "a.png")
    assert code == 1
    assert "holds no workflow" in err


def test_converting_without_an_instance_says_what_to_do(atelier):
    code, _, err = atelier("workflows", "convert", str(UI), "--comfyui", "http://127.0.0.1:9")
    assert code == 1
    assert "127.0.0.1:9" in err
    assert "--object-info" in err


def test_migrate_makes_the_database(atelier, tmp_path):
    code, out, _ = atelier("migrate")
    assert code == 0
    assert "SQLite" in out
    assert (tmp_path / "data" / "atelier.db").exists()
    assert atelier("migrate")[0] == 0, "again does nothing"


def test_doctor_names_faulty_workflow_files(atelier, monkeypatch, tmp_path):
    (tmp_path / "broken.json").write_text("{")
    monkeypatch.setenv("ATELIER_WORKFLOWS_DIR", str(tmp_path))
    code, out, _ = atelier("doctor", "--comfyui", "http://127.0.0.1:1")
    assert code == 1
    assert any(line.startswith("FAIL workflows") and "broken.json" in line for line in
               out.splitlines())  # fmt: skip


def test_doctor_says_what_works_and_what_does_not(atelier):
    code, out, _ = atelier("doctor", "--comfyui", "http://127.0.0.1:1")
    assert code == 1
    lines = out.splitlines()
    assert any(line.startswith("ok") and "database: SQLite" in line for line in lines)
    assert any(line.startswith("ok") and "storage" in line for line in lines)
    (bad,) = [line for line in lines if line.startswith("FAIL")]
    assert "http://127.0.0.1:1" in bad
    hint = lines[lines.index(bad) + 1]
    assert hint.strip()


@pytest.mark.parametrize(
    ("variables", "said"),
    [
        ({"COMFYUI_URLS": "127.0.0.1:8188"}, "COMFYUI_URLS"),
        ({"COMFYUI_URLS": "ftp://gpu"}, "ftp://gpu"),
        ({"PORT": "http"}, "PORT"),
        ({"DATABASE_URL": "oracle://scott@tiger/x"}, "oracle"),
        ({"DATABASE_URL": "nonsense"}, "DATABASE_URL"),
        ({"ATELIER_DATA_DIR": "/proc/atelier"}, "/proc/atelier"),
        ({"ATELIER_DATA_DIR": "a-file"}, "a-file"),
        ({"STORAGE_URL": "ftp://bucket"}, "STORAGE_URL"),
        ({"ATELIER_FETCH_ALLOW": "10.0.0.0/99"}, "10.0.0.0/99"),
        ({"ATELIER_WORKFLOWS_DIR": "no-such-folder"}, "no-such-folder"),
    ],
    ids=lambda value: (
        " ".join(f"{k}={v}" for k, v in value.items()) if isinstance(value, dict) else ""
    ),
)
def test_configuration_that_can_not_be_used_is_a_sentence(
    atelier, monkeypatch, tmp_path, variables, said
):
    (tmp_path / "a-file").write_text("")
    for name, value in {"ATELIER_EMBEDDED_ENGINE": "never", "PORT": "0", **variables}.items():
        monkeypatch.setenv(name, value)
    code, _, err = atelier("up")
    assert code == 2, err
    assert said in err
    assert "Traceback" not in err
    assert err.startswith("atelier: ")


@pytest.fixture
def refusing_endpoint():
    """An S3 service that knows nobody."""

    class Refusing(BaseHTTPRequestHandler):
        def do_PUT(self):
            self.rfile.read(int(self.headers["Content-Length"]))
            self.send_response(403)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *arguments):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Refusing) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def test_wrong_credentials_of_the_storage_are_a_sentence(atelier, monkeypatch, refusing_endpoint):
    for name, value in (
        ("STORAGE_PROVIDER", "minio"),
        ("STORAGE_URL", f"s3://pictures?endpoint={refusing_endpoint}"),
        ("STORAGE_ACCESS_KEY", "key"),
        ("STORAGE_SECRET_KEY", "hunter2"),
        ("ATELIER_EMBEDDED_ENGINE", "never"),
    ):
        monkeypatch.setenv(name, value)
    code, _, err = atelier("up", "--port", "0")
    assert code == 2, err
    assert "Bucket pictures refused us access" in err
    assert "credentials" in err
    code, out, _ = atelier("doctor", "--comfyui", "http://127.0.0.1:1")
    assert code == 1
    (bad,) = [line for line in out.splitlines() if line.startswith("FAIL storage")]
    assert "Bucket pictures refused us access" in bad
    assert "hunter2" not in err + out


def test_taken_port_is_a_sentence(atelier):
    with listen("127.0.0.1", 0) as taken:
        port = taken.getsockname()[1]
        code, _, err = atelier("up", "--host", "127.0.0.1", "--port", str(port))
    assert code == 2
    assert str(port) in err
    assert not Path("data").exists(), "nothing was started for it"


def test_database_of_a_newer_version_is_a_sentence(atelier, tmp_path):
    assert atelier("migrate")[0] == 0
    engine = create_engine(f"sqlite:///{tmp_path / 'data' / 'atelier.db'}")
    with engine.begin() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = '9999_of_tomorrow'"))
    engine.dispose()
    for command in (("up", "--port", "0"), ("migrate",)):
        code, _, err = atelier(*command)
        assert code == 2
        assert "newer" in err
        assert "Traceback" not in err


def test_file_that_is_no_database_is_a_sentence(atelier, tmp_path):
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "atelier.db").write_text("this is no database at all " * 100)
    code, _, err = atelier("up", "--port", "0")
    assert code == 2
    assert err.startswith("atelier: ")


def test_database_that_does_not_answer_is_a_sentence(atelier, monkeypatch):
    monkeypatch.setenv("DATABASE_URL", "postgresql://nobody@127.0.0.1:1/x")
    code, _, err = atelier("migrate")
    assert code != 0
    assert "Traceback" not in err
    assert err.startswith("atelier: ")


def test_worker_without_any_comfyui_says_what_to_set(atelier):
    code, _, err = atelier("worker")
    assert code == 2
    assert "COMFYUI_URLS" in err


def test_run_on_a_service_that_is_not_there_says_so(atelier):
    code, _, err = atelier("run", "style_change", "--url", "http://127.0.0.1:1")
    assert code == 1
    assert "http://127.0.0.1:1" in err


def test_input_that_is_no_pair_says_how_to_write_it(atelier):
    code, _, err = atelier("run", "style_change", "-i", "clay")
    assert code == 1
    assert "NAME=VALUE" in err


@pytest.mark.parametrize(
    ("pair", "expected"),
    [
        ("style=clay", "clay"),
        ("strength=0.5", 0.5),
        ("seed=7", 7),
        ("flag=true", True),
        ("image=http://host/x.png?a=b", "http://host/x.png?a=b"),
        ('ref={"asset": "1"}', {"asset": "1"}),
        ("prompt=a cat, 4k", "a cat, 4k"),
        # what JSON would read as null or text stays as it was written
        ("prompt=null", "null"),
        ('prompt="quoted"', '"quoted"'),
        ("prompt=", ""),
    ],
)
def test_inputs_are_read_as_they_look(pair, expected):
    (value,) = parse_inputs([pair]).values()
    assert value == expected
    assert type(value) is type(expected)


def test_input_that_names_a_file_is_that_file(tmp_path):
    path = tmp_path / "photo.png"
    path.write_bytes(b"")
    assert parse_inputs([f"image={path}"]) == {"image": path}


def test_picture_that_is_not_there_is_said_to_be_missing():
    with pytest.raises(InputMalformed, match=r"image: there is no file 'photo\.JPG' here"):
        parse_inputs(["image=photo.JPG"])


@pytest.mark.parametrize(
    "pair",
    ["image=https://example.com/a.png", "prompt=like photo.png", "10.image=example.png"],
)
def test_what_only_ends_like_a_picture_is_taken_as_it_is(pair):
    (value,) = parse_inputs([pair]).values()
    assert value == pair.partition("=")[2]


@pytest.mark.parametrize("pair", ["clay", "=clay", ""])
def test_input_without_a_name_is_refused(pair):
    with pytest.raises(InputMalformed):
        parse_inputs([pair])


def test_printed_line_names_a_photo_that_is_there():
    line = curl_line("http://127.0.0.1:8000")
    path = Path(line.partition("image=@")[2].split(" ")[0])
    assert path.read_bytes()[:3] == b"\xff\xd8\xff"


def test_webhook_secret_is_made_once_and_shown(atelier, monkeypatch):
    code, made, _ = atelier("webhooks", "secret")
    assert code == 0
    assert made.startswith("whsec_")
    assert atelier("webhooks", "secret")[1] == made
    given = "whsec_" + "A" * 32
    monkeypatch.setenv("ATELIER_WEBHOOK_SECRET", given)
    assert atelier("webhooks", "secret")[1].strip() == given
    monkeypatch.setenv("ATELIER_WEBHOOK_SECRET", "hunter2")
    code, _, said = atelier("webhooks", "secret")
    assert code == 2
    assert "hunter2" not in said
    assert "ATELIER_WEBHOOK_SECRET" in said
