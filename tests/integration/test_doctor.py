"""`atelier doctor` beside a real instance, and each thing that it finds wrong."""

import io
import json
from collections import namedtuple

import pytest
from aiohttp import web
from pydantic import AliasChoices
from rich.console import Console

from atelier.cli.doctor import examine, instances, machine, services
from atelier.cli.doctor.finding import Finding, failed, ok, warning, without_secrets
from atelier.cli.doctor.report import show
from atelier.settings import Settings, load_settings


@pytest.fixture(autouse=True)
def clean(monkeypatch, tmp_path):
    for field in Settings.model_fields.values():
        alias = field.validation_alias
        for name in alias.choices if isinstance(alias, AliasChoices) else [alias]:
            monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def look(capsys):
    """What `atelier doctor --json` finds by part, and whether nothing fails."""

    async def run(url=None):
        fine = await examine(data_dir=None, comfyui_urls=url, json=True)
        found = json.loads(capsys.readouterr().out)
        assert all(set(one) == {"part", "level", "message", "hint"} for one in found)
        assert all(one["hint"] for one in found if one["level"] != "ok")
        return {one["part"]: Finding(**one) for one in found}, fine

    return run


async def test_instance_and_where_each_workflow_runs(engine, look):
    found, fine = await look(engine.url)
    assert fine
    instance = found[f"ComfyUI {engine.url}"]
    assert instance.level == "ok"
    assert "ms away" in instance.message
    assert found["workflow style_change"].level == "ok"
    assert f"classic at 127.0.0.1:{engine.port}" in found["workflow style_change"].message
    lacking = found["workflow text_to_image"]
    assert lacking.level == "warning"
    assert "models/checkpoints/" in lacking.message
    assert "https://" in lacking.hint


async def test_instance_without_websocket_fails(engine, look, monkeypatch):
    monkeypatch.setattr(instances, "WEBSOCKET_SECONDS", 0.2)

    async def refuse(request):
        return web.Response(status=400) if request.path == "/ws" else None

    engine.before = refuse
    found, fine = await look(engine.url)
    assert not fine
    assert "WebSocket" in found[f"ComfyUI {engine.url}"].message


async def test_clock_of_an_instance_is_compared(engine):
    async def backward(request):
        if request.path != "/queue":
            return None
        then = {"Date": "Sun, 06 Nov 1994 08:49:37 GMT"}
        return web.json_response({"queue_running": [], "queue_pending": []}, headers=then)

    engine.before = backward
    well, clock = (await instances.examine(engine.url, "one")).findings
    assert (well.level, clock.level) == ("ok", "warning")
    assert "behind" in clock.message


async def test_engine_of_a_running_service_is_looked_at_and_left(engine, look, tmp_path):
    folder = tmp_path / "data" / "engine"
    folder.mkdir(parents=True)
    (folder / "engine.json").write_text(json.dumps({"url": engine.url, "pid": 1}))
    settings = load_settings(embedded_engine="always")
    (found,) = await instances.examine_all(settings)
    assert found.findings[0].level == "ok"
    assert "COMFYUI_URLS" in found.findings[0].message
    (again,) = await instances.examine_all(settings)
    assert again.info is not None


async def test_no_instance_at_all_fails(monkeypatch):
    monkeypatch.setattr(instances, "DEFAULT_COMFYUI", "http://127.0.0.1:1")
    (found,) = await instances.examine_all(load_settings(embedded_engine="never"))
    assert found.findings[0].level == "failed"
    assert "COMFYUI_URLS" in found.findings[0].hint


async def test_contradictions_are_findings(look, monkeypatch):
    monkeypatch.setenv("COMFYUI_URLS", "http://a:8188")
    monkeypatch.setenv("COMFYUI_BASE_URL", "http://b:8188")
    found, fine = await look()
    assert not fine
    assert "COMFYUI_BASE_URL" in found["configuration"].message


async def test_redis_that_is_away_is_a_warning():
    settings = load_settings(redis_host="127.0.0.1", redis_port=1)
    (found,) = await services.redis(settings)
    assert found.level == "warning"
    assert "No job depends on it" in found.hint
    assert await services.redis(load_settings()) == []


async def test_storage_is_written_to(tmp_path):
    assert (await services.storage(load_settings())).level == "ok"
    (tmp_path / "file").write_text("")
    found = await services.storage(load_settings(storage_url=str(tmp_path / "file" / "below")))
    assert (found.level, bool(found.hint)) == ("failed", True)


@pytest.mark.parametrize(
    ("free", "level"), [(3_000_000_000, "ok"), (1_999_999_999, "warning"), (199_999_999, "failed")]
)
async def test_free_disk_is_looked_at(monkeypatch, free, level):
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(machine.shutil, "disk_usage", lambda path: usage(1, 1, free))
    assert machine.data_folder(load_settings()).level == level


async def test_folders_that_can_not_be_used_say_so(tmp_path):
    (tmp_path / "file").write_text("")
    settings = load_settings(
        data_dir=tmp_path / "file" / "data",
        log_dir=str(tmp_path / "file" / "logs"),
        comfyui_root=tmp_path / "nowhere",
    )
    assert machine.data_folder(settings).level == "failed"
    assert machine.log_folder(settings).level == "failed"
    assert [one.level for one in machine.comfyui_folders(settings)] == ["warning", "warning"]
    (tmp_path / "comfy" / "input").mkdir(parents=True)
    (tmp_path / "comfy" / "output").mkdir()
    settings = load_settings(comfyui_root=tmp_path / "comfy", log_dir="none")
    assert machine.log_folder(settings).level == "ok"
    assert {one.part for one in machine.comfyui_folders(settings)} == {
        "ComfyUI input folder", "ComfyUI output folder",
    }  # fmt: skip


async def test_limit_of_open_files_is_compared_with_the_instances(monkeypatch):
    resource = pytest.importorskip("resource")
    monkeypatch.setattr(resource, "getrlimit", lambda which: (1024, 4096))
    assert machine.open_files(3) == []
    (found,) = machine.open_files(20)
    assert "ulimit -n 1200" in found.hint
    (found,) = machine.open_files(200)
    assert "hard limit (4096)" in found.hint


async def test_no_password_is_shown():
    seen = without_secrets(
        failed("ComfyUI http://ada:hunter2@gpu", "key topsecretkey", "http://a:b@c"),
        {"topsecretkey", "x"},
    )
    assert seen == failed("ComfyUI http://ada:***@gpu", "key ***", "http://a:***@c")


async def test_terminals_get_a_table_and_others_lines():
    findings = [ok("one", "is [well]"), warning("two", "is odd", "do this"), failed("x", "y", "z")]
    plain, coloured = io.StringIO(), io.StringIO()
    show(findings, Console(file=plain, highlight=False))
    assert plain.getvalue().splitlines() == [
        "ok   one: is [well]",
        "warn two: is odd",
        "     do this",
        "FAIL x: y",
        "     z",
        "1 failure and 1 warning.",
    ]
    show(findings, Console(file=coloured, highlight=False, force_terminal=True, width=80))
    assert "\x1b[" in coloured.getvalue()
    assert "is [well]" in coloured.getvalue()
