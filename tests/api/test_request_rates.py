"""Requests a minute: every call that submits is counted, and refused in its dialect's words."""

import uuid

import aiohttp
import pytest

from atelier.telemetry import configure_logging

PICTURE = "http://pictures.example/cat.png"
GRAPH = {
    "1": {"class_type": "EmptyImage", "inputs": {"width": 8, "height": 8}},
    "2": {"class_type": "SaveImage", "inputs": {"images": ["1", 0], "filename_prefix": "x"}},
}
QUOTA = 3


@pytest.fixture(scope="module")
def limited(new_backstage, tmp_path_factory):
    configure_logging("ERROR")
    stage = new_backstage(
        tmp_path_factory.mktemp("limited"), requests_per_minute=QUOTA, all_requests_per_minute=1000
    )
    stage.start()
    yield stage
    stage.stop()


@pytest.fixture
async def http(limited):
    async with aiohttp.ClientSession(limited.base) as session:
        yield session


def native(user):
    inputs = {"image": PICTURE}
    return "/v1/jobs", {"workflow": "style_change", "inputs": inputs, "user": user}


def typed(user):
    return f"/v1/workflows/style_change?user={user}", {"image": PICTURE}


def transform(user):
    return "/api/v1/transform", {"user_id": user, "image_url": PICTURE, "style_type": "clay"}


def tasks(user):
    inputs = {"image": PICTURE}
    return "/api/tasks/create", {"workflow": "style_change", "inputs": inputs, "user_id": user}


def service(user):
    return "/api/v1/workflows/submit", {"workflow": GRAPH, "client_id": user}


def code_of(body):
    """Where each dialect says what was wrong."""
    if "error" in body:
        return body["error"]["code"]
    return body.get("details", {}).get("reason") or body["code"]


@pytest.mark.parametrize("call", [native, typed, transform, tasks, service])
async def test_one_more_than_the_quota_is_refused_in_the_dialects_shape(http, call):
    path, body = call(f"user-{uuid.uuid4().hex[:8]}")
    for left in range(QUOTA - 1, -1, -1):
        async with http.post(path, json=body) as answer:
            assert answer.status != 429, await answer.text()
            policy = f'"user";q={QUOTA};w=60'
            assert answer.headers["RateLimit-Policy"] == f'{policy}, "all";q=1000;w=60'
            assert answer.headers["RateLimit"].startswith(f'"user";r={left};t=')
    async with http.post(path, json=body) as answer:
        assert answer.status == 429
        assert 1 <= int(answer.headers["Retry-After"]) <= 60 / QUOTA
        assert answer.headers["RateLimit"].startswith('"user";r=0;t=')
        assert code_of(await answer.json(content_type=None)) == "RATE_LIMITED"
    other, other_body = call(f"user-{uuid.uuid4().hex[:8]}")
    async with http.post(other, json=other_body) as answer:
        assert answer.status != 429, "another user has a quota of their own"


async def test_batch_counts_each_picture(http):
    user = f"user-{uuid.uuid4().hex[:8]}"
    body = {"user_id": user, "image_urls": [PICTURE] * QUOTA, "style_type": "clay"}
    async with http.post("/api/v1/transform/batch", json=body) as answer:
        assert answer.status == 200
    async with http.post("/api/v1/transform/batch", json=body) as answer:
        assert answer.status == 429
        assert code_of(await answer.json(content_type=None)) == "RATE_LIMITED"


async def test_who_names_no_user_is_counted_by_address(http):
    body = {"workflow": "style_change", "images": {"image": PICTURE}}
    statuses = []
    for _ in range(QUOTA + 1):
        async with http.post("/api/generate", json=body) as answer:
            statuses.append(answer.status)
    assert statuses[-1] == 429
    assert 429 not in statuses[:-1]
    # Over /v1 nobody named means the same address.
    async with http.post("/v1/jobs", json={"workflow": "style_change"}) as answer:
        assert answer.status == 429


async def test_retry_counts_as_a_submission(http, limited):
    user = f"user-{uuid.uuid4().hex[:8]}"
    path, body = native(user)
    async with http.post(path, json=body) as answer:
        job = (await answer.json())["id"]
    for _ in range(QUOTA - 1):
        async with http.post(f"/v1/jobs/{job}/cancel") as answer:
            assert answer.status in (200, 409)
            assert "RateLimit" not in answer.headers
        async with http.post(f"/v1/jobs/{job}/retry") as answer:
            assert answer.status == 202
    async with http.post(f"/v1/jobs/{job}/retry") as answer:
        assert answer.status == 429


async def test_looking_is_free(http):
    for _ in range(QUOTA + 2):
        async with http.get("/v1/jobs") as answer:
            assert answer.status == 200
            assert "RateLimit" not in answer.headers


async def test_submission_over_a_websocket_is_counted_and_the_socket_stays(http):
    client = f"client-{uuid.uuid4().hex[:8]}"
    async with http.ws_connect(f"/api/v1/ws/{client}") as socket:
        for _ in range(QUOTA + 1):
            await socket.send_json({"type": "submit", "data": {"workflow": GRAPH}})
        await socket.send_json({"type": "ping"})
        seen = []
        while not seen or seen[-1]["type"] != "pong":
            seen.append(await socket.receive_json(timeout=10))
    refused = [one["data"] for one in seen if one["type"] == "execution_error"]
    assert refused[-1]["details"]["reason"] == "RATE_LIMITED"
    assert refused[-1]["details"]["retry_after_seconds"] >= 1


async def test_without_a_limit_there_are_no_headers(client, submit):
    async with client.post(
        "/v1/jobs", json={"workflow": "style_change", "inputs": {"image": PICTURE}}
    ) as answer:
        assert answer.status == 202
        assert "RateLimit" not in answer.headers


async def test_document_tells_of_the_refusal_where_it_can_come(client):
    async with client.get("/openapi.json") as answer:
        paths = (await answer.json())["paths"]
    told = {
        path
        for path, operations in paths.items()
        for operation in operations.values()
        if "429" in operation["responses"]
    }
    assert told >= {
        "/v1/jobs",
        "/v1/jobs/{job_id}/retry",
        "/v1/workflows/style_change",
        "/api/v1/transform",
        "/api/v1/transform/batch",
        "/api/tasks/create",
        "/api/tasks/{task_id}/retry",
        "/api/generate",
        "/api/v1/workflows/submit",
    }
    assert "/v1/instances" not in told


async def test_processes_that_live_are_listed(client):
    async with client.get("/v1/workers") as answer:
        assert answer.status == 200
        (worker,) = (await answer.json())["workers"]
    assert (worker["role"], worker["state"], worker["running_jobs"]) == ("api", "live", 0)
