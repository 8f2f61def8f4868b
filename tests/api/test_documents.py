import asyncio
import json
import re

import aiohttp
import pytest
from openapi_spec_validator import validate

from atelier.api.documents import static_folder


@pytest.fixture
async def document(client):
    async with client.get("/openapi.json") as answer:
        assert answer.status == 200
        return await answer.json()


async def test_openapi_document_is_valid(document):
    validate(document)


async def test_every_operation_has_a_summary_and_a_tag_that_is_described(document):
    described = {tag["name"] for tag in document["tags"]}
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            assert operation.get("summary"), (path, method)
            assert set(operation["tags"]) <= described, (path, method)


async def test_operation_ids_are_unique(document):
    ids = [
        one["operationId"]
        for operations in document["paths"].values()
        for one in operations.values()
    ]
    assert len(ids) == len(set(ids))


async def test_every_problem_is_described_as_one_or_in_its_dialects_shape(document):
    for path, operations in document["paths"].items():
        for operation in operations.values():
            for status, response in operation["responses"].items():
                if status in ("404", "422"):
                    shape = response["content"].get("application/json", {}).get("schema", {})
                    own = shape.get("$ref", "").endswith("ErrorModel")
                    assert own or "application/problem+json" in response["content"], (path, status)


async def test_every_shipped_workflow_is_a_typed_operation(client, document):
    async with client.get("/v1/workflows") as answer:
        workflows = (await answer.json())["workflows"]
    assert workflows
    for workflow in workflows:
        operation = document["paths"][f"/v1/workflows/{workflow['name']}"]["post"]
        schema = operation["requestBody"]["content"]["application/json"]["schema"]
        assert set(schema["properties"]) == {one["name"] for one in workflow["manifest"]["inputs"]}


def examples(document):
    """(path, body) of every request that /docs offers to send."""
    for path, operations in document["paths"].items():
        content = operations.get("post", {}).get("requestBody", {}).get("content", {})
        body = content.get("application/json")
        if body is None or "{" in path:
            continue
        if "example" in body:
            yield path, body["example"]
            continue
        name = body["schema"]["$ref"].rpartition("/")[2]
        for example in document["components"]["schemas"][name]["examples"]:
            yield path, example


async def test_examples_work_when_pressed_and_need_no_network(client, document):
    offered = list(examples(document))
    assert {path for path, _ in offered} >= {
        "/v1/jobs",
        "/v1/workflows/style_change",
        "/api/v1/transform",
        "/api/v1/transform/batch",
        "/api/tasks/create",
        "/api/comfyui-interrupt",
        "/api/v1/workflows/submit",
        "/api/v1/workflows/interrupt",
        "/api/v1/queue/clear",
        "/api/generate",
    }
    for path, body in offered:
        if path == "/v1/instances":
            continue  # there is a ComfyUI of one's own to name
        assert "http" not in json.dumps(body)
        async with client.post(path, json=body) as answer:
            assert answer.status in (200, 202), (path, await answer.text())


@pytest.mark.parametrize("path", ["/docs", "/redoc"])
async def test_pages_need_nothing_from_elsewhere(client, path):
    if static_folder() is None:
        pytest.skip("the package fastapi-offline is not installed")
    async with client.get(path) as answer:
        page = await answer.text()
    addresses = re.findall(r'(?:src|href)="([^"]+)"', page)
    assert addresses
    for address in addresses:
        assert address.startswith("/"), address
        async with client.get(address) as answer:
            assert answer.status == 200, address


async def test_typed_run_takes_its_inputs_as_the_body(client, user):
    body = {"image": "http://x.example/a.png", "style": "anime"}
    async with client.post(
        "/v1/workflows/style_change", params={"user": user}, json=body
    ) as answer:
        assert answer.status == 202
        job = await answer.json()
    assert (job["workflow"], job["user"], job["inputs"]["style"]) == ("style_change", user, "anime")


async def test_typed_run_takes_a_form_with_a_photo(client, make_picture):
    form = aiohttp.FormData()
    form.add_field("image", make_picture(), filename="photo.png", content_type="image/png")
    form.add_field("style", "cartoon")
    form.add_field("strength", "0.3")
    form.add_field("seed", "42")
    async with client.post("/v1/workflows/style_change", data=form) as answer:
        assert answer.status == 202, await answer.text()
        job = await answer.json()
    assert job["inputs"]["strength"] == 0.3
    assert job["seed"] == 42
    async with client.get(f"/v1/assets/{job['inputs']['image']['asset']}/content") as answer:
        assert answer.status == 200


async def test_typed_run_names_wrong_inputs_as_they_were_sent(client, assert_problem):
    async with client.post("/v1/workflows/style_change", json={"strength": 7}) as answer:
        document = await assert_problem(answer, 422, "INPUTS_INVALID")
    assert {error["field"] for error in document["errors"]} == {"image", "strength"}


async def test_backslashes_in_a_prompt_are_no_nul_characters(client):
    body = {"image": "http://x.example/a.png", "prompt": "a \\u0000 b \\"}
    async with client.post("/v1/workflows/style_change", json=body) as answer:
        assert answer.status == 202
        assert (await answer.json())["inputs"]["prompt"] == body["prompt"]


@pytest.mark.parametrize("body", [b"{nope", b"[]", b'"text"'])
async def test_typed_run_refuses_what_is_no_object(client, assert_problem, body):
    async with client.post("/v1/workflows/style_change", data=body) as answer:
        await assert_problem(answer, 422, "BODY_NOT_JSON")


@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_unknown_workflow_is_not_found_and_lists_what_there_is(client, method):
    async with client.request(method, "/v1/workflows/nope", json={}) as answer:
        assert answer.status == 404
        assert "style_change" in await answer.text()


async def test_accepting_a_picture_is_answered_with_the_picture(
    client, backstage, user, make_picture
):
    async def ask():
        async with client.post(
            "/v1/workflows/style_change",
            params={"user": user},
            json={"image": "http://x.example/a.png"},
            headers={"Accept": "image/*"},
        ) as answer:
            return answer.status, answer.headers, await answer.read()

    asking = asyncio.create_task(ask())
    jobs = []
    while not jobs:
        async with client.get("/v1/jobs", params={"user": user}) as answer:
            jobs = (await answer.json())["jobs"]
    asset = await backstage.finish(jobs[0]["id"], make_picture())
    status, headers, data = await asking
    assert (status, headers["Content-Type"]) == (200, "image/png")
    assert headers["Content-Location"] == f"/v1/assets/{asset.id}/content"
    assert data.startswith(b"\x89PNG")


async def test_picture_that_fails_is_answered_with_the_jobs_error(client, backstage, user):
    async def ask():
        async with client.post(
            "/v1/workflows/style_change",
            params={"user": user},
            json={"image": "http://x.example/a.png"},
            headers={"Accept": "image/png, */*;q=0.1"},
        ) as answer:
            return answer.status, await answer.json(content_type="application/problem+json")

    asking = asyncio.create_task(ask())
    jobs = []
    while not jobs:
        async with client.get("/v1/jobs", params={"user": user}) as answer:
            jobs = (await answer.json())["jobs"]
    await backstage.fail(jobs[0]["id"], code="NOT_AN_IMAGE", message="None.", hint="Look.")
    status, document = await asking
    assert (status, document["code"], document["hint"]) == (422, "NOT_AN_IMAGE", "Look.")
    assert document["data"]["job"] == jobs[0]["id"]
