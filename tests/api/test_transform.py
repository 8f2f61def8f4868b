import pytest
from pydantic import TypeAdapter

from atelier.api.transform.models import BatchModel, TaskModel, TaskPageModel, TransformStatsModel

CAT = "http://pictures.example/cat.png"


def assert_described(model, document):
    TypeAdapter(model).validate_python(document, strict=True)
    assert set(document) <= set(model.model_fields)


@pytest.fixture
def transform(client, user):
    async def transform(**body):
        document = {"user_id": user, "image_url": CAT, **body}
        async with client.post("/api/v1/transform", json=document) as answer:
            assert answer.status == 200, await answer.text()
            return await answer.json()

    return transform


async def task(client, task_id):
    async with client.get(f"/api/v1/task/{task_id}") as answer:
        assert answer.status == 200
        return await answer.json()


async def test_task_is_pending_at_once(transform, user):
    made = await transform()
    assert_described(TaskModel, made)
    assert made["status"] == "pending"
    assert made["user_id"] == user
    assert made["style_type"] == "clay"
    assert made["queue_position"] >= 1
    assert made["created_at"].endswith("Z")


async def test_fields_become_the_workflows_inputs(client, transform):
    made = await transform(style_type="anime", custom_prompt="a robot", strength=0.25)
    async with client.get(f"/v1/jobs/{made['task_id']}") as answer:
        job = await answer.json()
    assert job["workflow"] == "style_change"
    assert job["inputs"]["style"] == "anime"
    assert job["inputs"]["prompt"] == "a robot"
    assert job["inputs"]["strength"] == 0.25
    assert job["inputs"]["image"] == {"url": CAT}


async def test_task_completes_with_an_absolute_address(
    client, backstage, transform, make_picture, user
):
    made = await transform()
    await backstage.finish(made["task_id"], make_picture())
    done = await task(client, made["task_id"])
    assert_described(TaskModel, done)
    assert (done["status"], done["progress"], done["user_id"]) == ("completed", 100, user)
    assert done["output_image_url"].startswith(f"{backstage.base}/")
    assert done["output_image_urls"] == [done["output_image_url"]]
    assert done["error_message"] is None
    async with client.get(done["output_image_url"]) as answer:
        assert (answer.status, answer.headers["Content-Type"]) == (200, "image/png")


async def test_failed_task_has_a_sentence_with_the_hint(client, backstage, transform):
    made = await transform()
    await backstage.fail(made["task_id"], code="NOT_AN_IMAGE", message="No picture.", hint="Look.")
    failed = await task(client, made["task_id"])
    assert failed["status"] == "failed"
    assert failed["error_message"] == "No picture. Look."
    assert failed["error_code"] == "NOT_AN_IMAGE"
    assert failed["output_image_url"] is None


async def test_claimed_task_is_processing(client, backstage, transform):
    made = await transform()
    await backstage.claim(made["task_id"])
    assert (await task(client, made["task_id"]))["status"] == "processing"


async def test_task_can_be_cancelled(client, transform):
    made = await transform()
    async with client.post(f"/api/v1/task/{made['task_id']}/cancel") as answer:
        assert (await answer.json())["status"] == "cancelled"


@pytest.mark.parametrize(
    ("body", "field", "message"),
    [
        ({"strength": False}, "strength", "must be a number; it is false"),
        ({"strength": 7}, "strength", "at most 1"),
        ({"strength": -0.1}, "strength", "at least 0"),
        ({"strength": "much"}, "strength", "must be a number"),
        ({"strength": None}, "strength", "must be a number"),
        ({"user_id": ""}, "user_id", "must not be empty"),
        ({"user_id": "  "}, "user_id", "must not be empty"),
        ({"user_id": 5}, "user_id", "must be text"),
        ({"user_id": None}, "user_id", "must be text"),
        ({"image_url": "ftp://x.example/a.png"}, "image_url", "must begin with http://"),
        ({"image_url": "file:///etc/passwd"}, "image_url", "must begin with http://"),
        ({"image_url": "http://"}, "image_url", "has no host name"),
        ({"image_url": "http:///a.png"}, "image_url", "has no host name"),
        ({"image_url": "http://x.example:port/"}, "image_url", "isn't a URL"),
        ({"image_url": "http://[::1"}, "image_url", "isn't a URL"),
        ({"image_url": ""}, "image_url", "must be the http, https or data: URL"),
        ({"image_url": "cat.png"}, "image_url", "must begin with http://"),
        ({"image_url": "data:image/png;base64"}, "image_url", "comma"),
        ({"image_url": "http://x.example/" + "a" * 9000}, "image_url", "at most 8192 characters"),
        ({"image_url": 5}, "image_url", "must be text"),
        ({"custom_prompt": "a\0b"}, "custom_prompt", "NUL"),
        ({"custom_prompt": "x" * 10_001}, "custom_prompt", "at most 10000 characters"),
    ],
)
async def test_wrong_field_is_named(client, assert_problem, user, body, field, message):
    document = {"user_id": user, "image_url": CAT, **body}
    async with client.post("/api/v1/transform", json=document) as answer:
        refused = await assert_problem(answer, 422, "INVALID_REQUEST")
    (error,) = refused["errors"]
    assert error["field"] == field
    assert message in error["message"]


@pytest.mark.parametrize("path", ["/api/v1/transform", "/api/v1/transform/batch"])
async def test_unknown_style_is_refused_and_lists_the_known(client, user, path):
    body = {"user_id": user, "image_url": CAT, "image_urls": [CAT], "style_type": "cubist"}
    async with client.post(path, json=body) as answer:
        refused = await answer.json(content_type="application/problem+json")
    assert answer.status == 422
    (error,) = refused["errors"]
    assert error["field"] == "style_type"
    assert error["allowed"] == ["clay", "anime", "realistic", "cartoon", "oil_painting"]


async def test_missing_fields_are_both_named(client, assert_problem):
    async with client.post("/api/v1/transform", json={}) as answer:
        refused = await assert_problem(answer, 422, "INVALID_REQUEST")
    assert {error["field"] for error in refused["errors"]} == {"user_id", "image_url"}


async def test_batch_has_one_entry_per_address_in_order(client, user):
    urls = [CAT, "ftp://x.example/a.png", "http://pictures.example/dog.png", 5]
    async with client.post(
        "/api/v1/transform/batch", json={"user_id": user, "image_urls": urls}
    ) as answer:
        assert answer.status == 200
        batch = await answer.json()
    assert_described(BatchModel, batch)
    results = batch["results"]
    assert [entry["image_url"] for entry in results] == [*urls[:3], "5"]
    assert [entry["status"] for entry in results] == ["pending", "failed", "pending", "failed"]
    assert results[0]["task_id"] != results[2]["task_id"]
    assert results[1]["task_id"] is None
    assert "http://" in results[1]["error_message"]
    assert (batch["total"], batch["accepted"]) == (4, 2)
    async with client.get(f"/api/v1/user/{user}/tasks") as answer:
        assert len((await answer.json())["tasks"]) == 2


async def test_cut_off_data_url_is_only_its_entrys_error(client, user):
    urls = ["data:image/png;base64,@@@", CAT]
    async with client.post(
        "/api/v1/transform/batch", json={"user_id": user, "image_urls": urls}
    ) as answer:
        results = (await answer.json())["results"]
    assert [entry["status"] for entry in results] == ["failed", "pending"]
    assert results[0]["error_code"] in ("DATA_URI_MALFORMED", "NOT_AN_IMAGE")
    assert results[0]["error_message"]


@pytest.mark.parametrize(
    ("urls", "message"),
    [
        ([CAT] * 101, "at most 100 entries"),
        ([CAT] * 200, "at most 100 entries"),
        ([], "at least 1 entries"),
        (CAT, "must be a list"),
    ],
)
async def test_batch_of_wrong_length_is_refused(client, assert_problem, user, urls, message):
    body = {"user_id": user, "image_urls": urls}
    async with client.post("/api/v1/transform/batch", json=body) as answer:
        refused = await assert_problem(answer, 422, "INVALID_REQUEST")
    (error,) = refused["errors"]
    assert error["field"] == "image_urls"
    assert message in error["message"]


async def test_users_see_their_own_tasks_only_newest_first_in_pages(client, transform, user):
    ids = [(await transform())["task_id"] for _ in range(3)]
    await transform(user_id=f"{user}-stranger")
    seen, cursor = [], None
    while cursor is not None or not seen:
        params = {"limit": "2"} | ({"cursor": cursor} if cursor else {})
        async with client.get(f"/api/v1/user/{user}/tasks", params=params) as answer:
            page = await answer.json()
        assert_described(TaskPageModel, page)
        assert {one["user_id"] for one in page["tasks"]} == {user}
        seen += [one["task_id"] for one in page["tasks"]]
        cursor = page["next_cursor"]
    assert seen == ids[::-1]


async def test_unknown_user_has_no_tasks(client, user):
    async with client.get(f"/api/v1/user/{user}/tasks") as answer:
        assert await answer.json() == {"user_id": user, "tasks": [], "next_cursor": None}


async def test_user_id_may_hold_any_sign(client, transform):
    strange = "Zoë & co/100%?"
    made = await transform(user_id=strange)
    async with client.get("/api/v1/user/Zo%C3%AB%20%26%20co%2F100%25%3F/tasks") as answer:
        assert answer.status == 404  # a slash separates, whoever writes it
    async with client.get(f"/api/v1/task/{made['task_id']}") as answer:
        assert (await answer.json())["user_id"] == strange


async def test_stats_speak_this_dialects_words(client, transform):
    await transform(style_type="cartoon")
    async with client.get("/api/v1/stats") as answer:
        stats = await answer.json()
    assert_described(TransformStatsModel, stats)
    assert set(stats["by_status"]) == {
        "pending",
        "processing",
        "completed",
        "failed",
        "cancelled",
    }
    assert stats["by_style"]["cartoon"] >= 1
    assert stats["queue_length"] == stats["by_status"]["pending"]
    assert stats["memory_in_use_mb"] > 10
