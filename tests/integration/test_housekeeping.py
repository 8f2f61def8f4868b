"""What housekeeping lets go of, and what it keeps because something refers to it."""

import asyncio
import os
import time

import pytest
import uuid_utils
from sqlalchemy import text

from atelier.comfy import uploads
from atelier.media.asset import input_key, output_key, thumbnail_key
from atelier.media.cache import CachedDownload, DownloadCache
from atelier.service.assets import AssetUnknown
from atelier.service.generations import JobUnknown
from atelier.worker import expired, housekeeping, references
from atelier.worker import run as run_module
from atelier.worker.housekeeping import Rules, sweep, sweep_forever

HOUR_MS = 3_600_000


async def age(service, *ids, hours, column="finished_at_ms", table="jobs"):
    for id in ids:

        async def work(conn, id=id):
            await conn.execute(
                text(f"UPDATE {table} SET {column} = {column} - :by WHERE id = :id"),
                {"by": int(hours * HOUR_MS), "id": id},
            )

        await service.database.run(work)


def make_old(path, *, hours):
    then = time.time() - hours * 3600
    os.utime(path, (then, then))


async def rows(service, query):
    async with service.database.read() as conn:
        return list((await conn.execute(text(query))).scalars())


def style_change(asset):
    return {"image": {"asset": asset.id}, "style": "clay"}


# -- jobs ------------------------------------------------------------------------------------------


async def test_old_tasks_go_but_what_they_made_stays_for_its_own_time(service):
    async with service.worker():
        old = await service.submit(dialect="transform")
        task = await service.submit(dialect="tasks")
        prompt = await service.submit(dialect="workflow_service")
        young = await service.submit(dialect="transform")
        native = await service.submit(dialect="native")
        await service.succeeded(old, task, prompt, young, native)
    waiting = await service.submit(dialect="transform")
    (output,) = (await service.generations.get(old)).outputs
    files = service.stored_files()
    await age(service, old, task, prompt, native, hours=25)
    context = await service.context()
    assert await sweep(context, Rules()) == {"jobs": 3}
    for id in (old, task, prompt):
        with pytest.raises(JobUnknown):
            await service.generations.get(id)
    for id in (young, native, waiting):
        await service.generations.get(id)
    await service.assets.open(output.id)
    assert service.stored_files() == files
    assert await sweep(context, Rules()) == {}


async def test_row_goes_a_day_after_the_job_with_all_that_belongs_to_it(service):
    ids = [await service.submit(webhook_url="http://127.0.0.1:1/x") for _ in range(2)]
    for id in ids:
        await service.generations.cancel(id)
        await service.generations.delete(id)
    context = await service.context()
    assert await sweep(context, Rules()) == {}
    await age(service, ids[0], hours=25, column="deleted_at_ms")
    assert await sweep(context, Rules()) == {"rows": 1}
    assert await rows(service, "SELECT id FROM jobs") == [ids[1]]
    assert await rows(service, "SELECT job_id FROM job_details") == [ids[1]]
    assert await rows(service, "SELECT job_id FROM webhooks") == [ids[1]]


async def test_many_are_swept_in_batches(service, monkeypatch):
    monkeypatch.setattr(expired, "PAGE", 3)
    monkeypatch.setattr(expired, "BATCH", 2)
    ids = [await service.submit(dialect="transform") for _ in range(7)]
    for id in ids:
        await service.generations.cancel(id)
    await age(service, *ids, hours=2)
    context = await service.context()
    assert await sweep(context, Rules(job_hours=1)) == {"jobs": 7}
    await age(service, *ids, hours=25, column="deleted_at_ms")
    assert await sweep(context, Rules()) == {"rows": 7}


async def test_several_workers_sweep_at_once(service, make_picture):
    ids = [await service.submit(dialect="transform") for _ in range(5)]
    pictures = [await service.assets.upload(make_picture(), filename=None, user="a") for _ in ids]
    for id in ids:
        await service.generations.cancel(id)
    await age(service, *ids, hours=25)
    await age(service, *(p.id for p in pictures), hours=25, column="created_at_ms", table="assets")
    contexts = [await service.context(f"w{n}") for n in range(3)]
    swept = await asyncio.gather(*(sweep(context, Rules()) for context in contexts))
    assert sum(one.get("jobs", 0) for one in swept) == 5
    assert sum(one.get("inputs", 0) for one in swept) == 5
    assert service.stored_files() == []


async def test_what_somebody_keeps_stays(service, make_picture, monkeypatch):
    class Favourites:
        async def jobs(self, context, ids):
            return [kept_job]

        async def assets(self, context, ids):
            return [kept_picture.id]

    kept_job, job = [await service.submit(dialect="transform") for _ in range(2)]
    kept_picture, picture = [
        await service.assets.upload(make_picture(), filename=None, user="a") for _ in range(2)
    ]
    for id in (kept_job, job):
        await service.generations.cancel(id)
    await age(service, kept_job, job, hours=25)
    await age(
        service, kept_picture.id, picture.id, hours=25, column="created_at_ms", table="assets"
    )
    monkeypatch.setattr(references, "KEEPERS", (*references.KEEPERS, Favourites()))
    swept = await sweep(await service.context(), Rules())
    assert swept == {"jobs": 1, "inputs": 1, "files": 1}
    await service.generations.get(kept_job)
    await service.assets.open(kept_picture.id)


# -- inputs and outputs ----------------------------------------------------------------------------


async def test_inputs_go_after_a_day_unless_a_job_needs_them(service, make_picture, graph_of):
    unused, named, in_graph, retried, young = [
        await service.assets.upload(make_picture(color=(n, 0, 0)), filename=None, user="a")
        for n in range(5)
    ]
    again = await service.submit("style_change", style_change(retried))
    await service.generations.cancel(again)
    await service.submit("style_change", style_change(named))
    graph = graph_of()
    graph["1"] = {"class_type": "LoadImage", "inputs": {"image": f"asset:{in_graph.id}"}}
    await service.submit(graph)
    old = (unused, named, in_graph, retried)
    await age(service, *(a.id for a in old), hours=25, column="created_at_ms", table="assets")
    await service.generations.retry(again)
    context = await service.context()
    assert await sweep(context, Rules()) == {"inputs": 1, "files": 1}
    with pytest.raises(AssetUnknown, match="There is no asset"):
        await service.assets.open(unused.id)
    for asset in (named, in_graph, retried, young):
        await service.assets.open(asset.id)
    async with service.worker():
        await service.succeeded(again)
    assert (await sweep(context, Rules(input_hours=24)))["inputs"] >= 1
    with pytest.raises(AssetUnknown):
        await service.assets.open(retried.id)


async def test_file_that_was_deleted_stays_for_the_job_that_needs_it(service, make_picture):
    asset = await service.assets.upload(make_picture(), filename=None, user="a")
    id = await service.submit("style_change", style_change(asset))
    await service.database.run(lambda conn: service.catalog.delete(conn, asset.id))
    context = await service.context()
    assert await sweep(context, Rules()) == {}
    async with service.worker():
        await service.succeeded(id)
    assert await sweep(context, Rules()) == {"files": 1}
    assert not [file for file in service.stored_files() if file.startswith("inputs/")]


async def test_outputs_go_after_a_month_and_their_jobs_say_so(service):
    async with service.worker():
        id, young = await service.submit(), await service.submit()
        await service.succeeded(id, young)
    (output,) = (await service.generations.get(id)).outputs
    await age(service, output.id, hours=30 * 24 + 1, column="created_at_ms", table="assets")
    assert await sweep(await service.context(), Rules()) == {"outputs": 1, "files": 1}
    (gone,) = (await service.generations.get(id)).outputs
    assert (gone.id, gone.available) == (output.id, False)
    (kept,) = (await service.generations.get(young)).outputs
    assert kept.available
    assert len(service.stored_files()) == 2
    with pytest.raises(AssetUnknown, match="There is no output"):
        await service.assets.open_output(output.name)


# -- files that nobody knows of --------------------------------------------------------------------


async def test_orphans_go_after_a_day(service, make_picture):
    async with service.worker():
        id = await service.submit()
        await service.succeeded(id)
    known = service.stored_files()
    waiting = await service.submit()
    stranger = str(uuid_utils.uuid7())

    async def put(key):
        for one in (key, thumbnail_key(key)):
            await service.store.put(one, b"x", "image/png")
        return key

    def new_id():
        return str(uuid_utils.uuid7())

    dead = await put(output_key(id, 7, new_id(), "image/png"))
    young = await put(output_key(id, 8, new_id(), "image/png"))
    spooled = await put(output_key(waiting, 1, new_id(), "image/png"))
    foreign = await put(output_key(stranger, 1, new_id(), "image/png"))
    upload = await put(input_key(new_id(), "image/png"))
    other = await put("outputs/notes.txt")
    for path in service.storage_folder.rglob("*.*"):
        if str(path.relative_to(service.storage_folder)) != young:
            make_old(path, hours=25)
    context = await service.context()
    assert await sweep(context, Rules()) == {"orphans": 1}
    left = {f for f in service.stored_files() if "thumbnail" not in f} - set(known)
    assert left == {young, spooled, foreign, upload, other}
    assert not [f for f in service.stored_files() if f == thumbnail_key(dead)]
    assert await sweep(context, Rules(own_store=True)) == {"orphans": 2}
    left = {f for f in service.stored_files() if "thumbnail" not in f} - set(known)
    assert left == {young, spooled, other}
    assert set(known) <= set(service.stored_files())


async def test_what_no_job_needs_any_more_is_forgotten(service):
    id = await service.submit()
    await service.generations.cancel(id)
    assert len(await rows(service, "SELECT hash FROM requirements")) == 1
    await service.generations.delete(id)
    await age(service, id, hours=25, column="deleted_at_ms")
    async with service.database.transaction() as conn:
        await conn.execute(text("UPDATE requirements SET created_at_ms = 1"))
    assert await sweep(await service.context(), Rules()) == {"rows": 1, "unused": 1}
    assert await rows(service, "SELECT hash FROM requirements") == []


# -- folders of this machine -----------------------------------------------------------------------


async def test_our_uploads_leave_the_input_folder_after_an_hour(
    service, engine, make_picture, gates, monkeypatch
):
    folder = engine._root / "input"
    asset = await service.assets.upload(make_picture(), filename=None, user="a")
    gate = gates.new()
    graph = {
        "1": {"class_type": "LoadImage", "inputs": {"image": f"asset:{asset.id}"}},
        "2": {**gate.node, "inputs": {**gate.node["inputs"], "image": ["1", 0]}},
        "3": {"class_type": "SaveImage", "inputs": {"images": ["2", 0], "filename_prefix": "a"}},
    }
    context = await service.context()
    rules = Rules(input_folders=(folder,))
    old = folder / "atelier-0123456789abcdef01234567-e5.png"
    theirs = folder / "atelier-holiday.png"
    for path in (old, theirs):
        path.write_bytes(b"x")
    async with service.worker():
        id = await service.submit(graph)
        await gate.reached()
        for path in folder.iterdir():
            make_old(path, hours=2)
        (used,) = set(folder.iterdir()) - {old, theirs}
        assert await sweep(context, rules) == {"uploads": 1}
        assert set(folder.iterdir()) == {used, theirs}, "a prompt at the instance names it"
        gate.open()
        await service.succeeded(id)
        assert await sweep(context, rules) == {"uploads": 1}
        assert set(folder.iterdir()) == {theirs}
        # Half an hour later nobody relies on what was sent before, and it is sent again.
        client = service.pool.instances[0].client
        later = time.time() + uploads.RENEW_SECONDS
        monkeypatch.setattr(client._uploads, "_now", lambda: later)
        again = await service.submit({**graph, "9": graph["3"]})
        await service.succeeded(again)
        assert len(set(folder.iterdir())) == 2


async def test_pictures_are_brought_again_where_the_seat_came_late(
    service, engine, make_picture, monkeypatch
):
    monkeypatch.setattr(run_module, "PLACED_SECONDS", -1.0)
    asset = await service.assets.upload(make_picture(), filename=None, user="a")
    async with service.worker():
        id = await service.submit("style_change", style_change(asset))
        await service.succeeded(id)
    assert len(list((engine._root / "input").iterdir())) == 1


async def test_uploads_stay_while_an_instance_that_runs_a_job_does_not_answer(
    service, engine, gates, graph_of
):
    folder = engine._root / "input"
    old = folder / "atelier-0123456789abcdef01234567-e5.png"
    old.write_bytes(b"x")
    make_old(old, hours=2)
    gate = gates.new()
    async with service.worker():
        id = await service.submit(graph_of(gate.node))
        await gate.reached()
        context = await service.context()

        async def refuse(request):
            raise ConnectionResetError

        engine.before = refuse
        assert await sweep(context, Rules(input_folders=(folder,))) == {}
        engine.before = None
        assert old.exists()
        gate.open()
        await service.ended(id)


async def test_files_of_the_embedded_engine_go_after_a_day(service, tmp_path):
    folder = tmp_path / "embedded"
    for name in ("output/a.png", "output/deep/b.png", "temp/c.png", "output/young.png"):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")
        make_old(path, hours=0 if "young" in name else 25)
    assert await sweep(await service.context(), Rules(engine=folder)) == {"engine_files": 3}
    assert [path.name for path in folder.rglob("*.png")] == ["young.png"]


async def test_downloads_that_nobody_used_for_a_day_go(service, tmp_path):
    cache = DownloadCache(tmp_path / "downloads")
    for url in ("http://a/old.png", "http://a/new.png"):
        await cache.put(CachedDownload(url, url, "", "", "image/png", b"x"))
    part = tmp_path / "downloads" / ".broken.part"
    part.write_bytes(b"x")
    for path in (part, cache._path("http://a/old.png")):
        make_old(path, hours=25)
    context = await service.context()
    assert await sweep(context, Rules(downloads=cache)) == {"downloads": 2}
    assert await cache.get("http://a/new.png") is not None
    off = DownloadCache(tmp_path / "downloads", max_bytes=0)
    assert await sweep(context, Rules(downloads=off)) == {"downloads": 1}


# -- troubles --------------------------------------------------------------------------------------


async def test_sweeping_goes_on_after_the_database_was_away(service, monkeypatch, eventually):
    monkeypatch.setattr(housekeeping, "EVERY_SECONDS", 0.05)
    id = await service.submit(dialect="transform")
    await service.generations.cancel(id)
    await age(service, id, hours=2)
    context = await service.context()
    with service.database_away():
        sweeping = asyncio.create_task(sweep_forever(context, Rules(job_hours=1)))
        await asyncio.sleep(0.15)
        assert not sweeping.done()

    async def gone():
        try:
            await service.generations.get(id)
        except JobUnknown:
            return True
        return False

    await eventually(gone, "it is still there")
    sweeping.cancel()
    await asyncio.gather(sweeping, return_exceptions=True)


async def test_part_that_fails_keeps_no_other_from_its_work(service, make_picture, monkeypatch):
    async def fail(*_, **__):
        raise RuntimeError("nobody foresaw it")

    monkeypatch.setattr(housekeeping, "hide_jobs", fail)
    asset = await service.assets.upload(make_picture(), filename=None, user="a")
    await age(service, asset.id, hours=25, column="created_at_ms", table="assets")
    assert await sweep(await service.context(), Rules()) == {"inputs": 1, "files": 1}
