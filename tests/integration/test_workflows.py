"""Workflows that change while jobs wait, in several processes on one database."""

import json
from io import BytesIO
from typing import Any

import pytest
from PIL import Image

from atelier.service import workflows as workflows_module
from atelier.service.workflows import (
    VersionUnknown,
    WorkflowNameInvalid,
    WorkflowNotOwn,
)
from atelier.workflows.definition import DefinitionInvalid
from atelier.workflows.library import WorkflowUnknown

RED, BLUE = 0xFF0000, 0x0000FF


def plain(color: int) -> dict[str, Any]:
    """A picture of one colour."""
    size = {"width": 16, "height": 16, "batch_size": 1}
    return {
        "1": {"class_type": "EmptyImage", "inputs": {**size, "color": color}},
        "2": {"class_type": "SaveImage", "inputs": {"images": ["1", 0], "filename_prefix": "p"}},
    }


async def color_of(service: Any, job: Any) -> tuple[int, int, int]:
    content = await service.assets.open(job.outputs[0]["id"])
    data = b"".join([part async for part in await content.read()])
    with Image.open(BytesIO(data)) as image:
        return image.convert("RGB").getpixel((4, 4))


@pytest.fixture
async def other(new_service: Any, engine: Any) -> Any:
    """Another process on the same database, such as a worker's."""
    return await new_service(engine.url, owner="w2")


async def test_a_job_runs_the_version_it_was_accepted_with(service: Any, other: Any) -> None:
    await service.workflows.put("plain", {"workflow": plain(RED), "inputs": ["color"]})
    first = await service.submit("plain")
    registered = await service.workflows.put("plain", {"workflow": plain(BLUE), "inputs": []})
    second = await service.submit("plain")
    await service.workflows.remove("plain")
    # The worker's process has never heard of it under that name.
    async with other.worker():
        jobs = await other.succeeded(first, second)
    assert jobs[0].workflow_version != jobs[1].workflow_version == registered.workflow.version
    assert [await color_of(service, job) for job in jobs] == [(255, 0, 0), (0, 0, 255)]


async def test_a_retry_runs_the_version_of_then(service: Any) -> None:
    registered = await service.workflows.put("plain", plain(RED))
    job = await service.submit("plain")
    await service.generations.cancel(job)
    await service.workflows.put("plain", plain(BLUE))
    await service.generations.retry(job)
    async with service.worker():
        (done,) = await service.succeeded(job)
    assert done.workflow_version == registered.workflow.version
    assert await color_of(service, done) == (255, 0, 0)


async def test_a_file_that_changed_while_a_job_waited_does_not_change_the_job(
    new_service: Any, engine: Any, other: Any, tmp_path: Any
) -> None:
    # The other process has no such folder.
    file = tmp_path / "workflows" / "plain.json"
    file.parent.mkdir()
    file.write_text(json.dumps(plain(RED)))
    service = await new_service(engine.url)
    job = await service.submit("plain")
    file.write_text(json.dumps({"workflow": plain(BLUE), "inputs": []}))
    await service.workflows.refresh_folders()
    newer = await service.submit("plain")
    async with other.worker():
        jobs = await other.succeeded(job, newer)
    assert [await color_of(service, job) for job in jobs] == [(255, 0, 0), (0, 0, 255)]
    listed = await other.workflows.versions("plain")
    assert [(one.number, one.origin) for one in listed] == [(2, "folder"), (1, "folder")]
    # A faulty file is told, and stops nothing.
    file.write_text("{")
    await service.workflows.refresh_folders()
    health = await service.overview.health()
    assert (health.ok, health.status) == (True, "degraded")
    assert "plain.json" in health.workflows
    await service.submit("plain")


async def test_what_one_process_registers_the_others_have(service: Any, other: Any) -> None:
    first = await service.workflows.put("plain", plain(RED))
    assert first.created
    # At once where the name is news.
    assert (await other.workflows.find("plain")).version == first.workflow.version
    second = await other.workflows.put("plain", plain(BLUE))
    assert not second.created
    await service.workflows.refresh_registered()
    assert service.library.get("plain").version == second.workflow.version
    await service.workflows.remove("plain")
    revision = other.library.revision
    await other.workflows.refresh_registered()
    assert other.library.find("plain") is None
    assert other.library.revision > revision
    with pytest.raises(WorkflowUnknown):
        await other.workflows.remove("plain")


async def test_the_library_follows_by_itself(
    service: Any, other: Any, monkeypatch: Any, eventually: Any
) -> None:
    import asyncio

    monkeypatch.setattr(workflows_module, "POLL_SECONDS", 0.02)
    task = asyncio.create_task(other.workflows.run())
    with other.database_away():
        await asyncio.sleep(0.05)
    await service.workflows.put("plain", plain(RED))
    await eventually(lambda: other.library.find("plain"), "the other process did not follow")
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def test_an_edit_overrides_a_shipped_workflow_and_removing_uncovers_it(service: Any) -> None:
    shipped = service.library.get("style_change")
    edited = await service.workflows.edit(
        "style_change", {"title": "Mine", "inputs": {"negative_prompt": None}}
    )
    assert not edited.created
    assert service.library.origin("style_change") == "own"
    assert service.library.get("style_change").manifest.input("negative_prompt") is None
    assert service.library.get("style_change").manifest.title == "Mine"
    await service.workflows.remove("style_change")
    assert service.library.get("style_change") == shipped
    with pytest.raises(WorkflowNotOwn, match="is shipped"):
        await service.workflows.remove("style_change")


async def test_versions_are_listed_and_found_by_hash_and_number(service: Any) -> None:
    for color in (RED, BLUE, RED):
        await service.workflows.put("plain", plain(color))
    listed = await service.workflows.versions("plain")
    assert [one.number for one in listed] == [2, 1]
    now = service.library.get("plain")
    assert now.version == listed[1].version, "the first content again is the first version again"
    second = await service.workflows.version("plain", "2")
    assert second.graphs["graph"] == plain(BLUE)
    assert await service.workflows.version("plain", listed[0].version) == second
    assert await service.workflows.version("plain", "1") is now
    with pytest.raises(VersionUnknown, match="no version '3'"):
        await service.workflows.version("plain", "3")
    with pytest.raises(WorkflowUnknown):
        await service.workflows.versions("plan")


async def test_a_name_may_be_in_any_script_and_leads_nowhere(service: Any) -> None:
    for name in (
        "",
        "a/b",
        "../a",
        "a..b",
        ".a",
        "-a",
        "a{b}",
        "a?",
        " a",
        "a\0",
        "inline",
        "a" * 101,
    ):
        with pytest.raises(WorkflowNameInvalid):
            await service.workflows.put(name, plain(RED))
        with pytest.raises(WorkflowUnknown):
            await service.workflows.remove(name)
        with pytest.raises(WorkflowUnknown):
            await service.workflows.versions(name)
    await service.workflows.put("肖像-2.1", plain(RED))
    async with service.worker():
        await service.succeeded(await service.submit("肖像-2.1"))


async def test_what_is_wrong_is_told_and_nothing_kept(service: Any) -> None:
    body = {"graph": plain(RED), "manifest": {"inputs": ["colour", "shape"]}}
    with pytest.raises(DefinitionInvalid) as caught:
        await service.workflows.put("plain", body)
    assert len(caught.value.problems) == 2
    faulty = {
        "inputs": [{"name": "color", "type": "integer", "default": 0, "min": 5}],
        "variants": [{"name": "a", "kind": "custom", "graph": "graph.json", "targets": {"b": []}}],
    }
    with pytest.raises(DefinitionInvalid) as caught:
        await service.workflows.put("plain", {"graph": plain(RED), "manifest": faulty})
    assert len(caught.value.problems) == 2
    assert service.workflows.try_out("plain", plain(RED)).name == "plain"
    with pytest.raises(WorkflowUnknown):
        await service.workflows.find("plain")


async def test_bounds_come_from_an_instance_and_checks_tell_of_each(service: Any) -> None:
    registered = await service.workflows.put("plain", plain(RED))
    size = registered.workflow.manifest.input("size")
    assert size.max is not None
    (check,) = service.overview.checks(registered.workflow)
    assert (check.variant, check.missing, check.problems) == ("graph", (), ())
    graph = plain(RED)
    graph["3"] = {"class_type": "CLIPTextEncode", "inputs": {"text": "a cat"}}
    lacking = service.workflows.try_out("plain", graph)
    (check,) = service.overview.checks(lacking)
    assert check.variant is None
    assert check.missing == ("the node CLIPTextEncode",)
    assert [problem["code"] for problem in check.problems] == ["node_missing"]
    assert service.overview.view_of(lacking).runnable is False
