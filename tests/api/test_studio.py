import base64

import pytest
from pydantic import TypeAdapter

from atelier.api.health import HealthModel
from atelier.api.studio.models import (
    AcceptedModel,
    GenerationModel,
    HistoryModel,
    ModelListModel,
    RecordModel,
)

# Fields and words that callers of this API have been written for.
ACCEPTED = {"job_id", "status"}
STATUS = {"status", "progress", "image_url", "image_urls", "error"}
RECORD = {
    "id",
    "prompt",
    "workflow",
    "model",
    "aspect_ratio",
    "batch_size",
    "seed",
    "status",
    "output_path",
    "created_at",
    "updated_at",
}


def assert_described(model, document):
    TypeAdapter(model).validate_python(document, strict=True)
    assert set(document) <= set(model.model_fields)


@pytest.fixture
def as_data_url(make_picture):
    def as_data_url(**how):
        encoded = base64.b64encode(make_picture(**how)).decode()
        return f"data:image/png;base64,{encoded}"

    return as_data_url


@pytest.fixture
def body(as_data_url):
    return {"workflow": "style_change", "images": {"image": as_data_url()}}


@pytest.fixture
def generate(client, body):
    async def generate(**more):
        async with client.post("/api/generate", json={**body, **more}) as answer:
            assert answer.status == 202, await answer.text()
            return await answer.json()

    return generate


@pytest.fixture
def look(client):
    async def look(path, **params):
        async with client.get(path, params=params) as answer:
            assert answer.status == 200, await answer.text()
            return await answer.json()

    return look


async def test_generation_is_accepted_with_the_seed_that_it_uses(generate, look):
    made = await generate(seed=42)
    assert set(made) >= ACCEPTED
    assert_described(AcceptedModel, made)
    assert (made["status"], made["seed"]) == ("queued", 42)
    drawn = await generate(seed=-1)
    assert drawn["seed"] >= 0
    assert (await look(f"/api/status/{drawn['job_id']}"))["seed"] == drawn["seed"]


async def test_status_tells_how_far_it_is(backstage, generate, look, client, make_picture):
    made = await generate()
    path = f"/api/status/{made['job_id']}"
    waiting = await look(path)
    assert set(waiting) >= STATUS
    assert_described(GenerationModel, waiting)
    assert (waiting["status"], waiting["progress"], waiting["error"]) == ("queued", 0, None)
    assert (waiting["image_url"], waiting["image_urls"]) == (None, [])
    assert "No ComfyUI instance" in waiting["message"]
    asset = await backstage.finish(made["job_id"], make_picture())
    done = await look(path)
    assert_described(GenerationModel, done)
    assert (done["status"], done["progress"]) == ("finished", 100)
    assert done["image_url"] == f"/outputs/{asset.id}.png"
    assert done["image_urls"] == [done["image_url"]]


async def test_claimed_generation_is_processing(backstage, generate, look):
    made = await generate()
    await backstage.claim(made["job_id"])
    assert (await look(f"/api/status/{made['job_id']}"))["status"] == "processing"


async def test_failed_generation_says_why_and_what_to_do(backstage, generate, look):
    made = await generate()
    await backstage.fail(made["job_id"], code="NO_PAINT", message="No paint.", hint="Buy some.")
    failed = await look(f"/api/status/{made['job_id']}")
    assert_described(GenerationModel, failed)
    assert (failed["status"], failed["error"]) == ("failed", "No paint. Buy some.")
    assert failed["error_code"] == "NO_PAINT"


async def test_generation_can_be_cancelled_once_or_twice_but_not_when_it_has_ended(
    backstage, client, generate, look, make_picture, assert_problem
):
    made = await generate()
    for _ in range(2):
        async with client.post(f"/api/cancel/{made['job_id']}") as answer:
            assert answer.status == 200
            cancelled = await answer.json()
        assert_described(GenerationModel, cancelled)
        assert cancelled["status"] == "cancelled"
    finished = await generate()
    await backstage.finish(finished["job_id"], make_picture())
    async with client.post(f"/api/cancel/{finished['job_id']}") as answer:
        await assert_problem(answer, 409, "JOB_ALREADY_ENDED")


@pytest.mark.parametrize(
    ("method", "path"),
    [("GET", "/api/status/nope"), ("POST", "/api/cancel/nope"), ("DELETE", "/api/history/nope")],
)
async def test_unknown_generation_is_not_found(client, assert_problem, method, path):
    async with client.request(method, path) as answer:
        await assert_problem(answer, 404, "JOB_UNKNOWN")


# -- what is asked for -----------------------------------------------------------------------------


async def test_words_become_the_workflows_inputs(generate, look, as_data_url):
    bare = as_data_url().partition(",")[2]
    made = await generate(
        prompt="a robot",
        seed=7,
        aspect_ratio="1:1",
        batch_size=4,
        images={"original": bare},
        style="anime",
    )
    job = await look(f"/v1/jobs/{made['job_id']}")
    assert job["inputs"]["prompt"] == "a robot"
    assert (job["inputs"]["seed"], job["inputs"]["style"]) == (7, "anime")
    assert job["inputs"]["batch_size"] == 4
    picture = await look(f"/v1/assets/{job['inputs']['image']['asset']}")
    assert (picture["media_type"], picture["width"], picture["height"]) == ("image/png", 16, 12)


async def test_uploaded_asset_can_be_named(client, generate, look, make_picture):
    async with client.post("/v1/assets", data=make_picture()) as answer:
        asset = (await answer.json())["id"]
    made = await generate(images={"image": f"asset:{asset}"})
    job = await look(f"/v1/jobs/{made['job_id']}")
    assert job["inputs"]["image"] == {"asset": asset}


@pytest.mark.parametrize(
    ("wrong", "field", "says"),
    [
        ({"batch_size": 9}, "batch_size", "at most 4"),
        ({"batch_size": 0}, "batch_size", "at least 1"),
        ({"batch_size": 1.5}, "batch_size", "whole number"),
        ({"aspect_ratio": "5:7"}, "aspect_ratio", "1:1, 16:9, 9:16, 2:3"),
        ({"aspect_ratio": "16:9"}, "aspect_ratio", "can't be chosen for style_change"),
        ({"seed": -2}, "seed", "at least -1"),
        ({"seed": 2**60}, "seed", "at most 9007199254740991"),
        ({"workflow": None}, "workflow", "must be text"),
        ({"prompt": "a\0b"}, "prompt", "NUL"),
        ({"promt": "a fox"}, "promt", "is not an input"),
        ({"negative_prompt": "a\0b"}, "negative_prompt", "NUL"),
        ({"strength": "\ud800"}, "strength", "plain JSON"),
        ({"style": "cubism"}, "style", "must be one of clay"),
        ({"images": {}}, "images.image", "is required"),
        ({"images": ["x"]}, "images", "must be an object"),
        ({"images": {"image": 5}}, "images.image", "must be text"),
        ({"images": {"image": ""}}, "images.image", "must not be empty"),
        ({"images": {str(n): "x" for n in range(5)}}, "images", "at most 4 entries"),
    ],
)
async def test_wrong_field_is_named_with_what_there_is(
    client, body, assert_problem, wrong, field, says
):
    async with client.post("/api/generate", json={**body, **wrong}) as answer:
        code = (await answer.json(content_type=None))["code"]
        refused = await assert_problem(answer, 422, code)
    assert code in ("INVALID_REQUEST", "INPUTS_INVALID")
    (error,) = refused["errors"]
    assert error["field"] == field
    assert says in error["message"]


@pytest.mark.parametrize(
    ("picture", "code"),
    [
        ("data:image/png;base64,aGVsbG8gd29ybGQ=", "NOT_AN_IMAGE"),
        ("aGVsbG8gd29ybGQ=", "NOT_AN_IMAGE"),
        ("data:image/png;base64,@@@", "NOT_AN_IMAGE"),
        ("../etc/passwd", "NOT_AN_IMAGE"),
        ("data:image/png", "URL_REFUSED"),
    ],
)
async def test_picture_that_is_none_is_refused_at_once(client, assert_problem, look, picture, code):
    before = (await look("/api/history"))["total"]
    body = {"workflow": "style_change", "images": {"photo": picture}}
    async with client.post("/api/generate", json=body) as answer:
        refused = await assert_problem(answer, 422, code)
    assert [error["field"] for error in refused["errors"]] == ["images.photo"]
    assert refused["hint"]
    assert (await look("/api/history"))["total"] == before


async def test_picture_that_the_workflow_does_not_take_is_named(
    client, assert_problem, as_data_url
):
    images = {"image": as_data_url(), "target": as_data_url()}
    body = {"workflow": "style_change", "images": images}
    async with client.post("/api/generate", json=body) as answer:
        refused = await assert_problem(answer, 422, "INPUTS_INVALID")
    (error,) = refused["errors"]
    assert (error["field"], error["allowed"]) == ("images.target", ["image"])


async def test_field_with_a_name_that_nobody_can_write_is_refused(client, body, assert_problem):
    async with client.post("/api/generate", json={**body, "\ud800": 1}) as answer:
        await assert_problem(answer, 422, "INVALID_REQUEST")


async def test_unknown_workflow_is_not_found_and_lists_what_there_is(client, assert_problem):
    async with client.post("/api/generate", json={"workflow": "../x"}) as answer:
        refused = await assert_problem(answer, 404, "WORKFLOW_UNKNOWN")
    (error,) = refused["errors"]
    assert error["field"] == "workflow"
    assert "style_change" in error["allowed"]


async def test_body_that_is_too_large_is_a_sentence(client, assert_problem):
    headers = {"Content-Length": "100000001", "Content-Type": "application/json"}

    async def nothing():
        yield b"{"

    async with client.post("/api/generate", data=nothing(), headers=headers) as answer:
        refused = await assert_problem(answer, 413, "BODY_TOO_LARGE")
    assert "100 MB" in refused["detail"]
    assert "/v1/assets" in refused["hint"]


# -- the history -----------------------------------------------------------------------------------


async def test_history_has_every_field_newest_first(backstage, generate, look, make_picture):
    first = await generate(prompt="a fox", seed=3, batch_size=2, aspect_ratio="1:1")
    second = await generate()
    asset = await backstage.finish(first["job_id"], make_picture())
    history = await look("/api/history")
    assert set(history) == {"total", "limit", "offset", "jobs"}
    assert (history["limit"], history["offset"]) == (50, 0)
    assert_described(HistoryModel, history)
    newest, older = history["jobs"][:2]
    assert set(newest) == set(RecordModel.model_fields) == RECORD
    assert [newest["id"], older["id"]] == [second["job_id"], first["job_id"]]
    assert (newest["status"], newest["output_path"]) == ("queued", None)
    assert older["created_at"].endswith("Z")
    assert older["updated_at"] >= older["created_at"]
    del older["created_at"], older["updated_at"]
    assert older == {
        "id": first["job_id"],
        "prompt": "a fox",
        "workflow": "style_change",
        "model": None,
        # Asked for, though the workflow has no input for it.
        "aspect_ratio": "1:1",
        "batch_size": 2,
        "seed": 3,
        "status": "finished",
        "output_path": f"/outputs/{asset.id}.png",
    }


async def test_history_has_pages(generate, look):
    ids = [(await generate())["job_id"] for _ in range(3)]
    page = await look("/api/history", limit=2, offset=1)
    assert (page["limit"], page["offset"]) == (2, 1)
    assert page["total"] >= 3
    assert [job["id"] for job in page["jobs"]] == ids[1::-1]
    beyond = await look("/api/history", offset=page["total"])
    assert (beyond["jobs"], beyond["total"]) == ([], page["total"])


@pytest.mark.parametrize(
    ("params", "field"),
    [({"limit": "101"}, "limit"), ({"limit": "0"}, "limit"), ({"offset": "-1"}, "offset")],
)
async def test_page_that_can_not_be_is_refused(client, assert_problem, params, field):
    async with client.get("/api/history", params=params) as answer:
        refused = await assert_problem(answer, 422, "INVALID_REQUEST")
    assert [error["field"] for error in refused["errors"]] == [field]


async def test_jobs_of_other_dialects_are_in_the_history_with_what_they_know(client, submit, look):
    job = await submit({"prompt": "a bear", "seed": 9})
    (record,) = [one for one in (await look("/api/history"))["jobs"] if one["id"] == job["id"]]
    assert (record["prompt"], record["seed"], record["batch_size"]) == ("a bear", 9, 1)
    assert record["aspect_ratio"] is None
    assert (await look(f"/api/status/{job['id']}"))["status"] == "queued"


async def test_generation_is_a_task_in_the_other_dialects_words(generate, look):
    made = await generate(style="cartoon")
    task = await look(f"/api/v1/task/{made['job_id']}")
    assert (task["status"], task["style_type"]) == ("pending", "cartoon")


async def test_record_of_what_has_ended_can_be_deleted(client, generate, look, assert_problem):
    made = await generate()
    async with client.delete(f"/api/history/{made['job_id']}") as answer:
        await assert_problem(answer, 409, "JOB_NOT_ENDED")
    async with client.post(f"/api/cancel/{made['job_id']}") as answer:
        assert answer.status == 200
    total = (await look("/api/history"))["total"]
    async with client.delete(f"/api/history/{made['job_id']}") as answer:
        assert (answer.status, await answer.read()) == (204, b"")
    history = await look("/api/history")
    assert history["total"] == total - 1
    assert made["job_id"] not in [job["id"] for job in history["jobs"]]


# -- pictures --------------------------------------------------------------------------------------


async def test_picture_is_served_as_assets_are(client, backstage, generate, make_picture):
    made = await generate()
    asset = await backstage.finish(made["job_id"], make_picture())
    path = f"/outputs/{asset.id}.png"
    async with client.get(path) as answer:
        assert answer.status == 200
        headers, whole = answer.headers, await answer.read()
    assert headers["Content-Type"] == "image/png"
    assert "immutable" in headers["Cache-Control"]
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert whole.startswith(b"\x89PNG")
    async with client.get(path, headers={"If-None-Match": headers["ETag"]}) as answer:
        assert answer.status == 304
    async with client.get(path, headers={"Range": "bytes=1-3"}) as answer:
        assert (answer.status, await answer.read()) == (206, b"PNG")
    async with client.head(path) as answer:
        assert answer.headers["Content-Length"] == str(len(whole))


@pytest.mark.parametrize(
    "name",
    [
        "nope.png",
        "..%2f..%2fatelier.db",
        "%2e%2e/atelier.db",
        "..%5catelier.db",
        "%2fetc%2fpasswd",
        "a/b.png",
        "x%00.png",
        "",
        "x" * 5000,
        "{asset}",
        "{asset}.jpg",
        "{asset}.png.png",
        "{asset}.PNG",
        "{input}.png",
    ],
)
async def test_name_that_is_no_output_is_not_found(
    client, backstage, generate, look, make_picture, name
):
    if "{" in name:
        made = await generate()
        asset = await backstage.finish(made["job_id"], make_picture())
        job = await look(f"/v1/jobs/{made['job_id']}")
        name = name.format(asset=asset.id, input=job["inputs"]["image"]["asset"])
    url = client._base_url.with_path(f"/outputs/{name}", encoded=True)
    async with client.get(url) as answer:
        refused = await answer.json(content_type="application/problem+json")
    assert answer.status == 404
    assert refused["code"] in ("ASSET_UNKNOWN", "ROUTE_NOT_FOUND")
    assert len(refused["detail"]) < 200


# -- state -----------------------------------------------------------------------------------------


async def test_models_are_none_without_an_instance(look):
    models = await look("/api/models")
    assert_described(ModelListModel, models)
    assert models == {"checkpoints": [], "unet": [], "models": []}


async def test_health_has_the_keys_that_monitors_look_for(look):
    health = await look("/health")
    assert_described(HealthModel, health)
    assert health["status"] in ("ok", "degraded")
    assert (health["mysql"], health["redis"]) == ("ok", "not configured")
