import asyncio
import json

import pytest


async def follow(client, read_sse, path, headers=None):
    """Everything a stream says until it ends."""
    async with client.get(path, headers=headers) as answer:
        assert answer.status == 200, await answer.text()
        return [(id, kind, json.loads(data)) async for id, kind, data in read_sse(answer)]


async def first(client, read_sse, path, headers=None):
    async with client.get(path, headers=headers) as answer:
        id, kind, data = await anext(read_sse(answer))
        return id, kind, json.loads(data)


@pytest.fixture
def cancel(client):
    async def cancel(job_id):
        async with client.post(f"/v1/jobs/{job_id}/cancel") as answer:
            assert answer.status == 200

    return cancel


async def test_stream_begins_with_a_snapshot_and_ends_with_the_job(
    client, read_sse, submit, cancel, user
):
    job = await submit()
    path = f"/v1/jobs/{job['id']}/events"
    async with client.get(path) as answer:
        assert answer.headers["Content-Type"].startswith("text/event-stream")
        assert "no-cache" in answer.headers["Cache-Control"]
        assert answer.headers["X-Accel-Buffering"] == "no"
        events = read_sse(answer)
        _, kind, data = await anext(events)
        snapshot = json.loads(data)
        assert (kind, snapshot["job"], snapshot["user"]) == ("snapshot", job["id"], user)
        assert snapshot["data"]["status"] == "queued"
        await cancel(job["id"])
        rest = [kind async for _, kind, _ in events]
    assert rest[-1] == "cancelled"


async def test_stream_says_first_when_to_connect_again(client, submit):
    job = await submit()
    async with client.get(f"/v1/jobs/{job['id']}/events") as answer:
        assert await answer.content.readline() == b"retry: 2000\n"


async def test_stream_of_an_ended_job_is_its_snapshot(client, read_sse, submit, cancel):
    job = await submit()
    await cancel(job["id"])
    events = await follow(client, read_sse, f"/v1/jobs/{job['id']}/events")
    assert [kind for _, kind, _ in events] == ["snapshot"]
    assert events[0][2]["data"]["status"] == "cancelled"


async def test_browser_that_has_seen_the_end_is_told_to_stop(client, read_sse, submit, cancel):
    job = await submit()
    await cancel(job["id"])
    path = f"/v1/jobs/{job['id']}/events"
    ((last, _, _),) = await follow(client, read_sse, path)
    async with client.get(path, headers={"Last-Event-ID": last}) as answer:
        assert answer.status == 204
    async with client.get(path, params={"last_event_id": last}) as answer:
        assert answer.status == 204


async def test_job_that_is_retried_is_told_again_to_who_has_seen_its_end(
    client, read_sse, submit, cancel
):
    job = await submit()
    await cancel(job["id"])
    path = f"/v1/jobs/{job['id']}/events"
    ((last, _, _),) = await follow(client, read_sse, path)
    async with client.post(f"/v1/jobs/{job['id']}/retry") as answer:
        assert answer.status == 202
    _, kind, _ = await first(client, read_sse, path, {"Last-Event-ID": last})
    assert kind == "queued"


async def test_stream_resumes_after_the_last_event_without_a_snapshot(
    client, read_sse, submit, cancel
):
    job = await submit()
    path = f"/v1/jobs/{job['id']}/events"
    last, _, _ = await first(client, read_sse, path)
    await cancel(job["id"])
    events = await follow(client, read_sse, path, {"Last-Event-ID": last})
    kinds = [kind for _, kind, _ in events]
    assert "snapshot" not in kinds
    assert kinds[-1] == "cancelled"


@pytest.mark.parametrize("last", ["rubbish", "1-0", "💥", "-end"])
async def test_unknown_last_event_id_gives_a_snapshot(client, read_sse, submit, last):
    job = await submit()
    path = f"/v1/jobs/{job['id']}/events"
    async with client.get(path, params={"last_event_id": last}) as answer:
        _, kind, _ = await anext(read_sse(answer))
    assert kind == "snapshot"


async def test_user_who_comes_from_another_process_is_told_what_ended_meanwhile(
    client, read_sse, submit, cancel, user
):
    before, ended, waiting = await submit(), await submit(), await submit()
    await cancel(before["id"])
    path = f"/v1/events?user={user}"
    last, _, _ = await first(client, read_sse, path)
    moment, sequence, _ = last.split("-")
    await cancel(ended["id"])
    elsewhere = {"Last-Event-ID": f"{int(moment) + 2_000}-{sequence}-otherone"}
    async with client.get(path, headers=elsewhere) as answer:
        told = {}
        async for _, kind, data in read_sse(answer):
            event = json.loads(data)
            told[event["job"]] = (kind, event["data"]["status"])
            if event["job"] == waiting["id"]:
                break
    assert told[ended["id"]] == ("snapshot", "cancelled")
    assert told[waiting["id"]] == ("snapshot", "queued")
    # Who was away for hours isn't told of all that has ever been.
    long_ago = {"Last-Event-ID": f"{int(moment) - 4_000_000}-0-otherone"}
    async with client.get(path, headers=long_ago) as answer:
        _, _, data = await anext(read_sse(answer))
    assert json.loads(data)["job"] == waiting["id"]


async def test_finished_event_carries_outputs_with_addresses(
    client, backstage, read_sse, submit, make_picture
):
    job = await submit()
    path = f"/v1/jobs/{job['id']}/events"
    following = asyncio.create_task(follow(client, read_sse, path))
    await asyncio.sleep(0.05)
    asset = await backstage.finish(job["id"], make_picture())
    events = await following
    kind, data = events[-1][1], events[-1][2]["data"]
    assert kind in ("finished", "snapshot")
    assert data["outputs"][0]["url"] == f"/v1/assets/{asset.id}/content"


async def test_users_stream_tells_all_his_jobs_and_no_others(
    client, read_sse, submit, cancel, user
):
    before = await submit()
    async with client.get("/v1/events", params={"user": user}) as answer:
        events = read_sse(answer)
        _, kind, data = await anext(events)
        assert (kind, json.loads(data)["job"]) == ("snapshot", before["id"])
        await submit(user=f"{user}-stranger")
        after = await submit()
        await cancel(after["id"])
        seen = set()
        async for _, kind, data in events:
            told = json.loads(data)
            assert told["user"] == user
            seen.add((told["job"], kind))
            if kind == "cancelled":
                break
    assert {(after["id"], "queued"), (after["id"], "cancelled")} <= seen


async def test_users_stream_needs_a_user(client, assert_problem):
    async with client.get("/v1/events") as answer:
        document = await assert_problem(answer, 422, "INVALID_REQUEST")
    assert document["errors"][0]["field"] == "user"


async def test_tasks_stream_speaks_the_dialects_words(
    client, backstage, read_sse, user, make_picture
):
    body = {"user_id": user, "image_url": "http://x.example/a.png"}
    async with client.post("/api/v1/transform", json=body) as answer:
        task_id = (await answer.json())["task_id"]
    path = f"/api/v1/task/{task_id}/events"
    following = asyncio.create_task(follow(client, read_sse, path))
    await asyncio.sleep(0.05)
    await backstage.finish(task_id, make_picture())
    events = [update for _, _, update in await following]
    assert events[0] | {"updated_at": "", "eta_seconds": 0, "queue_position": 0, "message": ""} == {
        "event": "snapshot",
        "task_id": task_id,
        "user_id": user,
        "updated_at": "",
        "status": "pending",
        "progress": 0,
        "step": None,
        "steps": None,
        "node": None,
        "queue_position": 0,
        "eta_seconds": 0,
        "message": "",
    }
    assert events[-1]["status"] == "completed"
    assert events[-1]["progress"] == 100
    assert events[-1]["output_image_url"].startswith(f"{backstage.base}/v1/assets/")


async def test_many_listeners_of_one_job_all_hear_its_end(client, read_sse, submit, cancel):
    job = await submit()
    path = f"/v1/jobs/{job['id']}/events"
    following = [asyncio.create_task(follow(client, read_sse, path)) for _ in range(50)]
    await asyncio.sleep(0.2)
    await cancel(job["id"])
    for events in await asyncio.gather(*following):
        assert events[-1][1] in ("cancelled", "snapshot")


async def test_listener_who_leaves_is_forgotten(client, backstage, submit):
    job = await submit()
    before = backstage.bus.listeners
    async with client.get(f"/v1/jobs/{job['id']}/events") as answer:
        await answer.content.readline()
        assert backstage.bus.listeners == before + 1
    await backstage.listeners_fall_to(before)
