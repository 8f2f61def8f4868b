import asyncio
import socket

import pytest
from yarl import URL

JSON = {"Content-Type": "application/json"}


@pytest.mark.parametrize(
    ("body", "headers"),
    [
        (b"{nope", JSON),
        (b"", JSON),
        (b"", {"Content-Type": "text/plain"}),
        (b"\xff\xfe\x00", JSON),
        (b"[" * 100_000, JSON),  # nested deeper than any parser goes
        (b"{}", {"Content-Type": "text/plain"}),
        (b"a=b", {"Content-Type": "application/x-www-form-urlencoded"}),
    ],
)
@pytest.mark.parametrize("path", ["/v1/jobs", "/api/v1/transform", "/api/v1/transform/batch"])
async def test_body_that_is_not_json_is_named_so(client, assert_problem, path, body, headers):
    async with client.post(path, data=body, headers=headers) as answer:
        document = await assert_problem(answer, 422, "BODY_NOT_JSON")
    assert "Content-Type: application/json" in document["hint"]


async def test_empty_json_body_names_what_is_required(client, assert_problem):
    async with client.post("/v1/jobs", json={}) as answer:
        document = await assert_problem(answer, 422, "INVALID_REQUEST")
    assert document["errors"] == [{"field": "workflow", "message": "is required"}]
    assert document["instance"] == "/v1/jobs"


async def test_unknown_field_is_refused_with_those_that_there_are(client, assert_problem):
    async with client.post("/v1/jobs", json={"workflow": "style_change", "inptus": {}}) as answer:
        document = await assert_problem(answer, 422, "INVALID_REQUEST")
    (error,) = document["errors"]
    assert error["field"] == "inptus"
    assert error["message"] == "isn't a known field (did you mean inputs?)"
    assert error["allowed"] == [
        "workflow",
        "inputs",
        "user",
        "priority",
        "metadata",
        "max_attempts",
        "output",
        "cache",
        "webhook_url",
    ]


@pytest.mark.parametrize(
    ("body", "field", "message"),
    [
        ({"workflow": 5}, "workflow", "must be"),
        ({"workflow": "w", "priority": "high"}, "priority", "must be a whole number"),
        ({"workflow": "w", "priority": 101}, "priority", "must be at most 100; it is 101"),
        ({"workflow": "w", "user": ""}, "user", "must not be empty"),
        ({"workflow": "w", "user": "x" * 201}, "user", "may have at most 200 characters"),
        ({"workflow": "w", "inputs": []}, "inputs", "must be an object"),
        ({"workflow": "w", "max_attempts": 0}, "max_attempts", "must be at least 1; it is 0"),
        ({"workflow": "w", "metadata": {"n": 10**30}}, "metadata", "64 bits"),
        ({"workflow": "w", "metadata": {"t": "x" * 17_000}}, "metadata", "at most 16 KB"),
        ({"workflow": "w", "inputs": {"n": 10**30}}, "inputs", "64 bits"),
        ({"workflow": "w", "inputs": {"t": "\ud800"}}, "inputs", "surrogates"),
        ({"workflow": "w", "inputs": {"t": ["a\0b"]}}, "inputs", "NUL"),
        ({"workflow": "w", "metadata": {"\0": 1}}, "metadata", "NUL"),
        ({"workflow": "w", "user": "\ud800"}, "user", "must be"),
    ],
)
async def test_wrong_field_is_named_in_words(client, assert_problem, body, field, message):
    async with client.post("/v1/jobs", json=body) as answer:
        document = await assert_problem(answer, 422, "INVALID_REQUEST")
    named = {error["field"].split(".")[0]: error["message"] for error in document["errors"]}
    assert message in named[field]
    assert "Input should" not in document["detail"]


async def test_all_wrong_fields_are_named_at_once(client, assert_problem):
    async with client.post("/v1/jobs", json={"priority": 1000, "user": ""}) as answer:
        document = await assert_problem(answer, 422, "INVALID_REQUEST")
    assert {error["field"] for error in document["errors"]} == {"workflow", "priority", "user"}


async def test_unknown_address_is_a_problem_that_points_to_the_docs(client, assert_problem):
    async with client.get("/v1/nothing/here") as answer:
        document = await assert_problem(answer, 404, "ROUTE_NOT_FOUND")
    assert "/docs" in document["hint"]


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("PUT", "/v1/jobs", "GET, POST"),
        ("PATCH", "/v1/jobs/some-id", "GET, DELETE"),
        ("GET", "/api/v1/transform", "POST"),
    ],
)
async def test_wrong_method_is_told_all_right_ones(client, assert_problem, method, path, allowed):
    async with client.request(method, path) as answer:
        await assert_problem(answer, 405, "METHOD_NOT_ALLOWED")
        assert answer.headers["Allow"] == allowed


@pytest.mark.parametrize(
    "path", ["/v1/jobs/%00", "/api/v1/user/a%00b/tasks", "/v1/assets/%00", "/v1/jobs/%00?q=%00"]
)
async def test_nul_in_an_address_finds_nothing(client, assert_problem, path):
    async with client.get(URL(path, encoded=True)) as answer:
        await assert_problem(answer, 404, "ROUTE_NOT_FOUND")


async def test_nul_in_a_query_is_refused(client, assert_problem):
    async with client.get(URL("/v1/jobs?user=a%00b", encoded=True)) as answer:
        document = await assert_problem(answer, 422, "INVALID_REQUEST")
    assert document["detail"] == "query must not contain NUL characters."


async def test_unknown_workflow_lists_what_there_is(client):
    async with client.post("/v1/jobs", json={"workflow": "nope"}) as answer:
        document = await answer.json(content_type="application/problem+json")
    assert answer.status in (404, 422)
    assert document["code"] == "WORKFLOW_UNKNOWN"
    assert "style_change" in str(document)


async def test_unknown_job_is_not_found(client, assert_problem):
    for method, path in (
        ("GET", "/v1/jobs/nope"),
        ("DELETE", "/v1/jobs/nope"),
        ("POST", "/v1/jobs/nope/cancel"),
        ("POST", "/v1/jobs/nope/retry"),
        ("GET", "/v1/jobs/nope/events"),
        ("GET", "/api/v1/task/nope"),
        ("GET", "/api/v1/task/nope/events"),
        ("POST", "/api/v1/task/nope/cancel"),
    ):
        async with client.request(method, path) as answer:
            await assert_problem(answer, 404, "JOB_UNKNOWN")


async def test_body_that_says_it_is_too_large_is_refused_before_it_is_sent(backstage):
    address = backstage.base.removeprefix("http://").split(":")
    reader, writer = await asyncio.open_connection(address[0], int(address[1]))
    writer.write(
        b"POST /v1/jobs HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
        b"Content-Length: 200000000\r\n\r\n"
    )
    answer = await asyncio.wait_for(reader.readuntil(b'"BODY_TOO_LARGE"'), 5)
    writer.close()
    assert answer.startswith(b"HTTP/1.1 413")


async def test_rubbish_instead_of_http_leaves_the_service_standing(backstage, client):
    host, port = backstage.base.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=5) as raw:
        raw.sendall(b"\x00\x01rubbish\r\n\r\n")
        raw.recv(1024)
    async with client.get("/ready") as answer:
        assert answer.status == 200


@pytest.mark.parametrize(
    ("output", "field", "message"),
    [
        ({"format": "bmp"}, "output.format", "must be one of png"),
        ({"quality": 0}, "output.quality", "must be at least 1"),
        ({"max_size": "x"}, "output.max_size", "must be a whole"),
        ({"fromat": "png"}, "output.fromat", "did you mean format"),
    ],
)
async def test_wrong_field_inside_an_object_is_named_with_its_place(
    client, assert_problem, output, field, message
):
    body = {"workflow": "style_change", "output": output}
    async with client.post("/v1/jobs", json=body) as answer:
        document = await assert_problem(answer, 422, "INVALID_REQUEST")
    (error,) = document["errors"]
    assert error["field"] == field
    assert message in error["message"]


@pytest.mark.parametrize("path", ["/api/comfyui-interrupt", "/api/v1/workflows/interrupt"])
async def test_misspelt_id_stops_nothing_instead_of_everything(client, path):
    async with client.post(path, json={"promptid": "1"}) as answer:
        assert answer.status == 422
        assert "promptid" in await answer.text()
