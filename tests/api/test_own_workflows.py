"""Registering, editing and removing workflows over /v1, and what the documents make of it."""

import uuid

import pytest

GRAPH = {
    "3": {
        "class_type": "KSampler",
        "inputs": {"seed": 1, "steps": 20, "cfg": 7.5, "positive": ["6", 0], "negative": ["7", 0]},
    },
    "6": {"class_type": "CLIPTextEncode", "inputs": {"text": "a cat"}},
    "7": {"class_type": "CLIPTextEncode", "inputs": {"text": "blurry"}},
    "10": {"class_type": "LoadImage", "inputs": {"image": "example.png"}},
    "9": {"class_type": "SaveImage", "inputs": {"images": ["10", 0], "filename_prefix": "a"}},
}


@pytest.fixture
async def name(client):
    """A name that no other test has; it means nothing again afterwards."""
    name = f"own-{uuid.uuid4().hex[:8]}"
    yield name
    async with client.delete(f"/v1/workflows/{name}"):
        pass


@pytest.fixture
def put(client, name):
    async def put(body, status=(200, 201), **query):
        async with client.put(f"/v1/workflows/{name}", json=body, params=query) as answer:
            assert answer.status in status, await answer.text()
            return await answer.json(content_type=None)

    return put


async def get(client, path, status=200):
    async with client.get(path) as answer:
        assert answer.status == status, await answer.text()
        return await answer.json(content_type=None)


async def test_a_graph_alone_becomes_a_workflow_and_a_typed_operation(client, name, put):
    made = await put(GRAPH, status=(201,))
    names = [one["name"] for one in made["manifest"]["inputs"]]
    assert names == ["prompt", "negative_prompt", "image", "seed", "steps", "cfg", "batch_size"]
    assert made["origin"] == "own"
    assert made["graphs"] == {"graph": GRAPH}
    assert made["checks"] == [], "no instance is up"
    assert made["input_schema"]["properties"]["steps"]["default"] == 20
    document = await get(client, "/openapi.json")
    operation = document["paths"][f"/v1/workflows/{name}"]["post"]
    content = operation["requestBody"]["content"]
    assert set(content["application/json"]["schema"]["properties"]) == set(names)
    assert content["application/json"]["example"]["prompt"] == "a cat"
    form = content["multipart/form-data"]
    assert form["schema"]["properties"]["image"] == {"type": "string", "format": "binary"}
    assert form["encoding"] == {"image": {"contentType": "image/*"}}
    example = content["application/json"]["example"]
    async with client.post(f"/v1/workflows/{name}", json=example) as answer:
        job = await answer.json()
        assert answer.status == 202, job
    assert job["workflow_version"] == made["version"]
    # The documents follow without a restart.
    async with client.delete(f"/v1/workflows/{name}"):
        pass
    assert f"/v1/workflows/{name}" not in (await get(client, "/openapi.json"))["paths"]


async def test_what_get_answers_can_be_changed_and_put_back(client, name, put):
    await put({"workflow": GRAPH, "inputs": ["prompt", "steps"]}, status=(201,))
    shown = await get(client, f"/v1/workflows/{name}")
    shown["manifest"]["title"] = "Changed"
    changed = await put(shown, status=(200,))
    assert changed["manifest"]["title"] == "Changed"
    assert changed["version"] != shown["version"]
    assert changed["graphs"] == shown["graphs"]


async def test_a_manifest_is_edited_by_what_changes(client, name, put):
    await put(GRAPH)
    patch = {"title": "Portrait", "inputs": {"steps": {"default": 8, "max": 30}, "cfg": None}}
    async with client.patch(f"/v1/workflows/{name}", json=patch) as answer:
        assert answer.status == 200, await answer.text()
        edited = await answer.json()
    inputs = {one["name"]: one for one in edited["manifest"]["inputs"]}
    assert (inputs["steps"]["default"], inputs["steps"]["max"]) == (8, 30)
    assert "cfg" not in inputs
    async with client.post(
        f"/v1/workflows/{name}", json={"image": "asset:1", "steps": 31}
    ) as answer:
        assert answer.status == 422
        assert (await answer.json(content_type=None))["errors"][0]["field"] == "steps"


async def test_versions_are_listed_and_shown(client, name, put):
    first = await put(GRAPH)
    second = await put({"workflow": GRAPH, "inputs": []})
    listed = (await get(client, f"/v1/workflows/{name}/versions"))["versions"]
    assert [(one["version"], one["number"], one["current"]) for one in listed] == [
        (second["version"], 2, True),
        (first["version"], 1, False),
    ]
    assert listed[0]["created_at"].endswith("Z")
    for version in (first["version"], "1"):
        shown = await get(client, f"/v1/workflows/{name}?version={version}")
        assert shown["manifest"] == first["manifest"]
    unknown = await get(client, f"/v1/workflows/{name}?version=9", 404)
    assert unknown["code"] == "WORKFLOW_VERSION_UNKNOWN"


async def test_a_dry_run_keeps_nothing(client, name, put):
    shown = await put(GRAPH, status=(200,), dry_run="true")
    assert shown["name"] == name
    await get(client, f"/v1/workflows/{name}", 404)


async def test_all_problems_are_told_at_once(client, name, put, assert_problem):
    body = {"workflow": GRAPH, "inputs": ["promt", "size"]}
    async with client.put(f"/v1/workflows/{name}", json=body) as answer:
        problem = await assert_problem(answer, 422, "WORKFLOW_VALIDATION_ERROR")
    assert [one.split()[0] for one in problem["data"]["problems"]] == ["promt", "size"]
    async with client.put(f"/v1/workflows/{name}", json={"1": {}, "2": 3}) as answer:
        problem = await assert_problem(answer, 422, "WORKFLOW_VALIDATION_ERROR")
    assert len(problem["data"]["problems"]) == 2
    async with client.put(f"/v1/workflows/{name}", data=b"[1]") as answer:
        await assert_problem(answer, 422, "BODY_NOT_JSON")
    async with client.patch("/v1/workflows/nothing", json={}) as answer:
        await assert_problem(answer, 404, "WORKFLOW_UNKNOWN")


@pytest.mark.parametrize("name", ["..%2Fa", "a%2Fb", "a..b", "inline", "%00"])
async def test_a_name_that_leads_elsewhere_is_refused(client, name):
    async with client.put(f"/v1/workflows/{name}", json=GRAPH) as answer:
        assert answer.status in (404, 405, 422)
        assert "code" in await answer.json(content_type=None)


async def test_a_shipped_workflow_can_be_overridden_but_not_removed(client, assert_problem):
    path = "/v1/workflows/style_change"
    before = await get(client, path)
    async with client.patch(path, json={"title": "Mine"}) as answer:
        assert answer.status == 200
    assert (await get(client, path))["origin"] == "own"
    async with client.delete(path) as answer:
        assert answer.status == 204
    assert await get(client, path) == before
    async with client.delete(path) as answer:
        await assert_problem(answer, 409, "WORKFLOW_NOT_OWN")
    async with client.delete("/v1/workflows/nothing") as answer:
        await assert_problem(answer, 404, "WORKFLOW_UNKNOWN")


async def test_lists_and_health_tell_of_faulty_files(client):
    assert (await get(client, "/v1/workflows"))["problems"] == []
    assert (await get(client, "/health"))["workflows"] == "ok"
