"""The tasks dialect: every call's shape, and what happens on the wrong foot."""

import asyncio
import json

import aiohttp
import pytest

from atelier.api.tasks import models
from atelier.events import event
from atelier.webhooks.tables import webhooks

CAT = "http://pictures.example/cat.png"
WORDS = {"pending", "processing", "completed", "failed", "cancelled"}


def fields(model):
    return set(model.model_fields)


@pytest.fixture
def create(client, user):
    async def create(**body):
        document = {"workflow": "style_change", "inputs": {"image": CAT}, "user_id": user, **body}
        async with client.post("/api/tasks/create", json=document) as answer:
            assert answer.status == 200, await answer.text()
            return await answer.json()

    return create


async def get(client, path, **query):
    async with client.get(path, params=query) as answer:
        assert answer.status == 200, await answer.text()
        return await answer.json()


async def refusal(answer, status, code):
    """The error that ``answer`` must be, in this dialect's shape."""
    document = await answer.json()
    assert answer.status == status, document
    assert answer.content_type == "application/json"
    assert set(document) == {"error", "detail"}
    error = document["error"]
    assert error["code"] == code
    assert error["message"] == document["detail"]
    assert isinstance(error["retryable"], bool)
    assert error["hint"] is None or error["hint"]
    return error


async def test_created_task_is_pending(client, create):
    made = await create(priority=7, max_retries=4, metadata={"order": 4711})
    assert set(made) == fields(models.AcceptedModel)
    assert made["status"] == "pending"
    assert (made["priority"], made["max_retries"]) == (7, 4)
    assert made["queue_position"] >= 1
    task = await get(client, f"/api/tasks/{made['task_id']}")
    assert set(task) == fields(models.TaskModel)
    assert (task["status"], task["progress"], task["retries"]) == ("pending", 0, 0)
    assert (task["result"], task["error"], task["webhook"]) == (None, None, None)
    assert (task["started_at"], task["completed_at"], task["timings"]) == (None, None, {})
    assert task["metadata"] == {"order": 4711}
    assert task["workflow"] == "style_change"
    assert set(task["progress_details"]) == {"step", "steps", "node"}


async def test_least_that_can_be_said_is_enough(client):
    body = {"workflow": "style_change", "inputs": {"image": CAT}}
    async with client.post("/api/tasks/create", json=body) as answer:
        made = await answer.json()
    task = await get(client, f"/api/tasks/{made['task_id']}")
    assert (task["user_id"], task["priority"], task["max_retries"]) == ("anonymous", 0, 2)


async def test_higher_priority_goes_first(create):
    await create(priority=900)
    assert (await create(priority=1000))["queue_position"] == 1
    assert (await create(priority=950))["queue_position"] > 1


async def test_whole_graph_takes_inputs_by_node(client, create):
    graph = {
        "1": {"class_type": "EmptyImage", "inputs": {"width": 8, "height": 8, "color": 1}},
        "2": {"class_type": "SaveImage", "inputs": {"images": ["1", 0], "filename_prefix": "x"}},
    }
    made = await create(workflow=graph, inputs={"1.color": 255})
    async with client.get(f"/v1/jobs/{made['task_id']}") as answer:
        job = await answer.json()
    assert (job["workflow"], job["inputs"]) == ("inline", {"1.color": 255})


async def test_completed_task_has_the_pictures_addresses(client, backstage, create, make_picture):
    made = await create()
    await backstage.finish(made["task_id"], make_picture())
    task = await get(client, f"/api/tasks/{made['task_id']}")
    assert (task["status"], task["progress"]) == ("completed", 100)
    result = task["result"]
    assert set(result) == fields(models.ResultModel)
    (image,) = result["images"]
    assert set(image) == fields(models.ResultFileModel)
    assert result["image_urls"] == [image["url"]]
    assert image["url"].startswith(f"{backstage.base}/")
    assert image["thumbnail_url"].startswith(f"{backstage.base}/")
    assert (image["width"], image["height"], image["media_type"]) == (16, 12, "image/png")
    assert result["files"] == []
    assert set(result["metadata"]) == {
        "workflow", "workflow_version", "variant", "seed", "instance", "cached",
    }  # fmt: skip
    assert isinstance(result["metadata"]["seed"], int)
    assert task["timings"]["execute_ms"] == 5
    assert task["timings"]["total_ms"] >= 0
    assert task["started_at"] <= task["completed_at"]
    async with client.get(image["url"]) as answer:
        assert (answer.status, answer.content_type) == (200, "image/png")


async def test_failed_task_has_the_error(client, backstage, create):
    made = await create()
    await backstage.fail(made["task_id"], code="NOT_AN_IMAGE", message="No.", hint="Look.")
    task = await get(client, f"/api/tasks/{made['task_id']}")
    assert (task["status"], task["result"]) == ("failed", None)
    assert (task["error"]["code"], task["error"]["message"]) == ("NOT_AN_IMAGE", "No.")


async def test_claimed_task_is_processing(client, backstage, create):
    made = await create()
    await backstage.claim(made["task_id"])
    assert (await get(client, f"/api/tasks/{made['task_id']}"))["status"] == "processing"


async def test_task_can_be_cancelled_and_tried_again(client, create):
    made = await create()
    async with client.post(f"/api/tasks/{made['task_id']}/cancel") as answer:
        cancelled = await answer.json()
    assert set(cancelled) == fields(models.TaskModel)
    assert cancelled["status"] == "cancelled"
    async with client.post(f"/api/tasks/{made['task_id']}/retry") as answer:
        assert (answer.status, (await answer.json())["status"]) == (200, "pending")
    async with client.post(f"/api/tasks/{made['task_id']}/retry") as answer:
        await refusal(answer, 409, "JOB_NOT_ENDED")


async def test_list_has_tasks_of_every_dialect_newest_first(client, create, submit, user):
    first = await create()
    second = await submit()
    page = await get(client, "/api/tasks", user_id=user, limit=1)
    assert [task["task_id"] for task in page["tasks"]] == [second["id"]]
    assert set(page["tasks"][0]) == fields(models.TaskModel)
    page = await get(client, "/api/tasks", user_id=user, cursor=page["next_cursor"])
    assert [task["task_id"] for task in page["tasks"]] == [first["task_id"]]
    assert page["next_cursor"] is None
    assert (await get(client, "/api/tasks", user_id=user, status="completed"))["tasks"] == []
    pending = await get(client, "/api/tasks", user_id=user, status="pending")
    assert len(pending["tasks"]) == 2
    elsewhere = await get(client, "/api/tasks", user_id=user, workflow="other")
    assert elsewhere["tasks"] == []


async def test_webhook_of_a_task_is_told_with_it(client, create):
    url = "https://app.example/hooks"
    made = await create(webhook_url=f" {url} ")
    task = await get(client, f"/api/tasks/{made['task_id']}")
    waiting = {"url": url, "status": "waiting", "attempts": 0, "last_error": None}
    assert task["webhook"] == waiting
    async with client.get(f"/v1/jobs/{made['task_id']}") as answer:
        assert (await answer.json())["webhook"] == waiting
    async with client.post(f"/api/tasks/{made['task_id']}/cancel") as answer:
        assert (await answer.json())["webhook"]["status"] == "pending"


async def outbox_of(backstage, id):
    async def read():
        async with backstage.app.database.read() as conn:
            query = webhooks.select().where(webhooks.c.job_id == id)
            return (await conn.execute(query)).one().body

    return await backstage.call(read())


async def test_webhook_tells_a_task_as_a_task_and_a_job_as_a_job(
    client, backstage, create, submit, make_picture
):
    url = "https://app.example/hooks"
    task = await create(webhook_url=url)
    job = await submit(webhook_url=url)
    for id in (task["task_id"], job["id"]):
        await backstage.finish(id, make_picture())
    told = await outbox_of(backstage, task["task_id"])
    assert told["type"] == "job.succeeded"
    assert set(told["data"]) == fields(models.TaskModel)
    assert told["data"]["status"] == "completed"
    assert told["data"]["result"]["image_urls"][0].startswith("http://")
    told = await outbox_of(backstage, job["id"])
    assert (told["data"]["id"], told["data"]["status"]) == (job["id"], "succeeded")
    (output,) = told["data"]["outputs"]
    assert output["url"].startswith("http://")


@pytest.mark.parametrize(
    ("body", "field", "message"),
    [
        ({"workflow": None}, "workflow", "must be the name of a workflow, or a graph"),
        ({"inputs": []}, "inputs", "must be an object"),
        ({"inputs": {"prompt": "a\0b"}}, "inputs", "NUL"),
        ({"priority": 1001}, "priority", "at most 1000"),
        ({"priority": "high"}, "priority", "must be a whole number"),
        ({"max_retries": -1}, "max_retries", "at least 0"),
        ({"max_retries": 21}, "max_retries", "at most 20"),
        ({"metadata": "x"}, "metadata", "must be an object"),
        ({"metadata": {"x": "y" * 17_000}}, "metadata", "at most 16 KB"),
        ({"webhook_url": 5}, "webhook_url", "must be text"),
        ({"user_id": " "}, "user_id", "must not be empty"),
    ],
)
async def test_wrong_field_is_named(client, body, field, message):
    document = {"workflow": "style_change", "inputs": {"image": CAT}, **body}
    async with client.post("/api/tasks/create", json=document) as answer:
        error = await refusal(answer, 422, "INVALID_REQUEST")
    wrong = {one["field"]: one["message"] for one in error["fields"]}
    assert message in wrong[field]


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("ftp://app.example", "neither an http nor an https"),
        ("http://127.0.0.1/x", "this machine"),
        ("not a url", "neither an http nor an https"),
    ],
)
@pytest.mark.parametrize("path", ["/api/tasks/create", "/v1/jobs"])
async def test_webhook_url_that_may_not_be_sent_to_is_named(client, path, url, said):
    body = {"workflow": "style_change", "inputs": {"image": CAT}, "webhook_url": url}
    async with client.post(path, json=body) as answer:
        document = await answer.json(content_type=None)
    assert answer.status == 422
    code, wrong = (
        (document["error"]["code"], document["error"]["fields"])
        if "error" in document
        else (document["code"], document["errors"])
    )
    assert code == "WEBHOOK_URL_REFUSED"
    assert wrong[0]["field"] == "webhook_url"
    assert said in wrong[0]["message"]


async def test_wrong_inputs_are_named_where_they_were_sent(client):
    body = {"workflow": "style_change", "inputs": {"strength": 7, "style": "cubist"}}
    async with client.post("/api/tasks/create", json=body) as answer:
        error = await refusal(answer, 422, "INPUTS_INVALID")
    wrong = {one["field"]: one for one in error["fields"]}
    assert set(wrong) == {"inputs.strength", "inputs.style", "inputs.image"}
    assert "clay" in wrong["inputs.style"]["allowed"]


@pytest.mark.parametrize("body", [b"", b"{nope", b"[]"])
async def test_body_that_is_no_object_is_refused(client, body):
    headers = {"Content-Type": "application/json"}
    async with client.post("/api/tasks/create", data=body, headers=headers) as answer:
        error = await refusal(answer, 422, "INVALID_REQUEST" if body == b"[]" else "BODY_NOT_JSON")
    assert error["message"]


async def test_unknown_workflow_lists_those_that_there_are(client):
    async with client.post("/api/tasks/create", json={"workflow": "nope"}) as answer:
        error = await refusal(answer, 404, "WORKFLOW_UNKNOWN")
    assert "style_change" in json.dumps(error)


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/api/tasks/nope"),
        ("POST", "/api/tasks/nope/cancel"),
        ("POST", "/api/tasks/nope/retry"),
        ("GET", "/api/tasks/nope/events"),
    ],
)
async def test_unknown_task_is_not_found(client, method, path):
    async with client.request(method, path) as answer:
        await refusal(answer, 404, "JOB_UNKNOWN")


async def test_wrong_queries_are_named(client):
    for query in ({"limit": "0"}, {"status": "done"}, {"cursor": "x"}):
        async with client.get("/api/tasks", params=query) as answer:
            error = await refusal(answer, 422, "INVALID_REQUEST")
        assert error["fields"][0]["field"] == next(iter(query))


async def test_progress_is_told_over_server_sent_events_to_the_end(
    client, backstage, create, make_picture, read_sse
):
    made = await create()
    heard = []
    async with client.get(f"/api/tasks/{made['task_id']}/events") as stream:
        assert stream.content_type == "text/event-stream"
        async for id, kind, data in read_sse(stream):
            heard.append((kind, json.loads(data)))
            if kind == "snapshot":
                await backstage.publish(
                    event.progress(made["task_id"], "u", percent=40, step=2, steps=5, node="3")
                )
                asset = await backstage.finish(made["task_id"], make_picture())
            last_id = id
    # What the database says may be told as well, between what the worker tells.
    assert [kind for kind, _ in heard if kind != "progress"] == ["snapshot", "finished"]
    assert all(update["task_id"] == made["task_id"] for _, update in heard)
    assert {update["status"] for _, update in heard} <= WORDS
    assert heard[0][1]["status"] == "pending"
    progress = next(update for _, update in heard if update.get("progress") == 40)
    assert (progress["step"], progress["steps"], progress["node"]) == (2, 5, "3")
    (url,) = heard[-1][1]["result"]["image_urls"]
    assert url == f"{backstage.base}/v1/assets/{asset.id}/content"
    headers = {"Last-Event-ID": last_id}
    async with client.get(f"/api/tasks/{made['task_id']}/events", headers=headers) as answer:
        assert answer.status == 204


async def test_progress_is_told_over_a_websocket_to_the_end(client, backstage, create):
    made = await create()
    async with client.ws_connect(f"/api/tasks/{made['task_id']}/ws") as socket:
        assert (await socket.receive_json(timeout=10))["status"] == "pending"
        await socket.send_str("what is this?")  # nothing that is said disturbs it
        await backstage.fail(made["task_id"], code="X", message="No.")
        while (update := await socket.receive_json(timeout=10))["status"] != "failed":
            pass
        assert update["error"]["code"] == "X"
        assert (await socket.receive(timeout=10)).type == aiohttp.WSMsgType.CLOSE
        assert socket.close_code == 1000


async def test_user_hears_of_his_tasks_and_of_no_others(client, create, submit, user, read_sse):
    async with (
        client.get("/api/tasks/events", params={"user_id": user}) as stream,
        client.ws_connect(f"/api/tasks/ws?user_id={user}") as socket,
    ):
        await submit(user=f"not-{user}")
        made = await create()
        async with asyncio.timeout(10):
            async for _, kind, data in read_sse(stream):
                assert (kind, json.loads(data)["task_id"]) == ("queued", made["task_id"])
                break
        update = await socket.receive_json(timeout=10)
        assert (update["event"], update["task_id"]) == ("queued", made["task_id"])


async def test_socket_of_an_unknown_task_is_refused_in_words(client):
    with pytest.raises(aiohttp.WSServerHandshakeError) as caught:
        await client.ws_connect("/api/tasks/nope/ws")
    assert caught.value.status == 404


async def test_queue_status_has_the_services_own_queue(client, backstage, create):
    waiting = (await create(priority=999))["task_id"]
    running = (await create())["task_id"]
    await backstage.claim(running)
    status = await get(client, "/api/comfyui-queue-status")
    assert set(status) == fields(models.QueueStatusModel)
    assert set(status["queue"]) == fields(models.ServiceQueueModel)
    assert running in status["queue"]["processing_tasks"]
    assert status["queue"]["processing"] == len(status["queue"]["processing_tasks"])
    assert waiting in status["queue"]["pending_tasks"]
    assert status["queue"]["pending"] >= 1
    assert status["instances"] == []


async def test_system_stats_of_no_instances_are_none(client):
    assert await get(client, "/api/comfyui-system-stats") == {"instances": []}


@pytest.mark.parametrize("named_by", ["task_id", "prompt_id"])
async def test_one_task_is_interrupted_by_name(client, backstage, create, named_by):
    made, other = await create(), await create()
    claim = await backstage.claim(made["task_id"])
    await backstage.claim(other["task_id"])
    names = {"task_id": made["task_id"], "prompt_id": claim.prompt_id}
    body = {named_by: names[named_by]}
    async with client.post("/api/comfyui-interrupt", json=body) as answer:
        stopped = await answer.json()
    assert set(stopped) == fields(models.InterruptedModel)
    assert (stopped["interrupted"], stopped["count"]) == ([made["task_id"]], 1)
    async with client.get(f"/v1/jobs/{other['task_id']}") as answer:
        assert (await answer.json())["status"] == "running"


@pytest.mark.parametrize("body", [None, b"", b"{}"])
async def test_everything_that_runs_is_interrupted_without_a_name(client, backstage, create, body):
    running, waiting = await create(), await create()
    await backstage.claim(running["task_id"])
    headers = {"Content-Type": "application/json"} if body else None
    async with client.post("/api/comfyui-interrupt", data=body, headers=headers) as answer:
        stopped = await answer.json()
    assert running["task_id"] in stopped["interrupted"]
    assert waiting["task_id"] not in stopped["interrupted"]
    assert "told to stop" in stopped["message"]


async def test_interrupting_what_is_not_there_says_so(client, create):
    for body, code in (
        ({"task_id": "nope"}, "JOB_UNKNOWN"),
        ({"prompt_id": "nope"}, "JOB_UNKNOWN"),
        ({"instance": "nope:1"}, "INSTANCE_UNKNOWN"),
    ):
        async with client.post("/api/comfyui-interrupt", json=body) as answer:
            await refusal(answer, 404, code)
    made = await create()
    async with client.post(f"/api/tasks/{made['task_id']}/cancel"):
        pass
    body = {"task_id": made["task_id"]}
    async with client.post("/api/comfyui-interrupt", json=body) as answer:
        # It is as it was asked to be.
        assert (answer.status, (await answer.json())["interrupted"]) == (200, [made["task_id"]])
    async with client.post("/api/comfyui-interrupt", json={"task_id": 5}) as answer:
        error = await refusal(answer, 422, "INVALID_REQUEST")
    assert error["fields"][0]["field"] == "task_id"


async def test_health_is_short_and_status_is_long(client):
    health = await get(client, "/api/health")
    assert set(health) == {"status", "message"}
    assert health["status"] in ("ok", "degraded")
    status = await get(client, "/api/status")
    assert set(status) == fields(models.StatusModel)
    assert status["environment"] == "production"
    assert (status["database"], status["storage"]) == ("ok", "ok")
    assert set(status["tasks"]) == WORDS
    assert status["queue_length"] >= 0


async def test_address_that_is_none_is_refused_in_this_shape(client):
    async with client.get("/api/tasks/create/nothing/here") as answer:
        await refusal(answer, 404, "ROUTE_NOT_FOUND")


async def test_bug_is_refused_in_this_shape(client, backstage, monkeypatch):
    async def broken(*_, **__):
        raise KeyError("secret detail")

    monkeypatch.setattr(backstage.app.services.overview, "queues", broken)
    async with client.get("/api/comfyui-queue-status") as answer:
        error = await refusal(answer, 500, "INTERNAL_ERROR")
    assert "secret" not in str(error)
