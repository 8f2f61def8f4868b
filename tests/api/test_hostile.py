"""Requests that nobody sends by mistake: each gets a 4xx in its dialect's shape.

Nothing of it is an error of the service: none is logged as one.
"""

import asyncio
import json

import pytest
import structlog
from yarl import URL

JSON = {"Content-Type": "application/json"}
FORM = {"Content-Type": "multipart/form-data; boundary=x"}
TASKS = ["/api/tasks/create", "/api/comfyui-interrupt"]
WORKFLOW_SERVICE = [
    "/api/v1/workflows/submit",
    "/api/v1/workflows/interrupt",
    "/api/v1/queue/clear",
]
PROBLEMS = ["/v1/jobs", "/v1/workflows/style_change", "/api/v1/transform", "/api/generate"]
TRAVERSALS = [
    "..%2f..%2fetc%2fpasswd",
    "%2e%2e/%2e%2e/%2e%2e/etc/passwd",
    "..%5c..%5catelier.db",
    "%c0%ae%c0%ae%5catelier.db",
    "%252e%252e%252fatelier.db",
    "%ff%fe",
    "%2fetc%2fpasswd",
    "a" * 5000,
]


@pytest.fixture(autouse=True)
def nothing_is_an_error_of_ours(backstage):
    with structlog.testing.capture_logs() as logs:
        yield
    assert [entry for entry in logs if entry["log_level"] in ("error", "critical")] == []


async def refused(answer, *, code=None):
    """Check that ``answer`` is a 4xx in the shape of its address; returns its code."""
    path = answer.url.path
    text = await answer.text()
    assert 400 <= answer.status < 500, (path, answer.status, text)
    document = json.loads(text)
    if path.startswith(("/api/tasks", "/api/comfyui-", "/api/health")) or path == "/api/status":
        assert answer.content_type == "application/json"
        assert set(document) == {"error", "detail"}, document
        said = document["error"]["code"]
    elif path.startswith(("/api/v1/workflows", "/api/v1/queue", "/api/v1/images", "/api/v1/ws")):
        assert answer.content_type == "application/json"
        assert set(document) == {"code", "message", "details"}, document
        assert document["code"] in {
            "WORKFLOW_VALIDATION_ERROR",
            "QUEUE_OPERATION_ERROR",
            "FILE_OPERATION_ERROR",
            "IMAGE_NOT_FOUND",
            "WEBSOCKET_ERROR",
        }
        said = document["details"]["reason"]
    else:
        assert answer.content_type == "application/problem+json"
        assert document["status"] == answer.status
        said = document["code"]
    if code is not None:
        assert said == code, (path, text)
    return said


@pytest.mark.parametrize("path", TASKS + WORKFLOW_SERVICE + PROBLEMS)
async def test_body_that_is_made_to_break_parsers_is_refused(client, path):
    deep = b"[" * 100_000
    huge = b"1" + b"0" * 400
    bodies = [
        b"{nope",
        b"[]",
        b"5",
        b"\xff\xfe{}",
        deep,
        b'{"workflow":' + deep + b"]" * 100_000 + b"}",
        b'{"workflow":' + b'{"a":' * 5000 + b"1" + b"}" * 5001,
        *(
            b'{"workflow":%s,"inputs":{"seed":%s},"seed":%s,"user_id":%s,"task_id":%s,'
            b'"prompt_id":%s,"clear":%s,"image":%s}' % ((number,) * 8)
            for number in (huge, b"1e400", b"NaN", b'"\\ud800"', b'"a\\u0000b"')
        ),
    ]
    for body in bodies:
        async with client.post(path, data=body, headers=JSON) as answer:
            await refused(answer)
    for headers in ({"Content-Type": "text/plain"}, {"Content-Type": ";;"}, FORM):
        async with client.post(path, data=b"a=b", headers=headers) as answer:
            await refused(answer)


@pytest.mark.parametrize("name", ["task_id", "prompt_id", "instance"])
@pytest.mark.parametrize("path", ["/api/comfyui-interrupt", "/api/v1/workflows/interrupt"])
async def test_id_with_a_nul_is_refused_before_a_database_sees_it(client, path, name):
    # PostgreSQL takes no such text, not even to look for it: this was a 500 there.
    name = "prompt_id" if "workflows" in path else name
    async with client.post(path, json={name: "a\0b"}) as answer:
        await refused(answer, code="INVALID_REQUEST")


async def test_of_two_keys_the_last_counts(client):
    body = b'{"workflow": "style_change", "workflow": "nope", "workflow": "last"}'
    async with client.post("/api/tasks/create", data=body, headers=JSON) as answer:
        assert "last" in (await answer.json())["detail"]
        await refused(answer, code="WORKFLOW_UNKNOWN")


def part(name, value, filename=""):
    head = f'--x\r\nContent-Disposition: form-data; name="{name}"{filename}\r\n\r\n'
    return head.encode() + value + b"\r\n"


@pytest.mark.parametrize(
    "path", ["/v1/assets", "/v1/workflows/style_change", "/api/v1/images/upload"]
)
async def test_form_that_can_not_be_is_refused(client, path):
    end = b"--x--\r\n"
    file = '; filename="a.png"'
    bodies = [
        b"no form at all",
        b"".join(part(f"f{number}", b"1") for number in range(1000)) + end,
        b"".join(part(f"f{number}", b"1", file) for number in range(1000)) + end,
        part("file", b"1" * 1_040_000) + end,
        part("file", b"", file) + end,
        part("file", b"x", '; filename="../../a\0.png"') + end,
        part("image", b"x\0y") + end,
        b"--x\r\nContent-Disposition: form-data\r\n\r\nv\r\n" + end,
        b"--x\r\n" + b"A: b\r\n" * 2000 + b"\r\nv\r\n" + end,
    ]
    for body in bodies:
        async with client.post(path, data=body, headers=FORM) as answer:
            await refused(answer)
    async with client.post(
        path, data=b"x", headers={"Content-Type": "multipart/form-data"}
    ) as answer:
        await refused(answer)


@pytest.mark.parametrize("name", TRAVERSALS)
async def test_name_that_climbs_out_of_its_folder_finds_nothing(client, name):
    for path in (
        f"/outputs/{name}",
        f"/v1/assets/{name}",
        f"/v1/assets/{name}/content",
        f"/v1/workflows/{name}",
        f"/docs-static/{name}",
        f"/api/tasks/{name}",
        f"/api/v1/images/download?filename={name}&type=input",
        f"/api/v1/images/download?filename=atelier.db&subfolder={name}&type=input",
        f"/api/v1/images/url?filename={name}",
    ):
        async with client.get(URL(path, encoded=True), allow_redirects=False) as answer:
            await refused(answer)


@pytest.mark.parametrize("name", TRAVERSALS)
async def test_workflow_can_not_be_registered_under_a_name_that_climbs(client, name):
    graph = {"1": {"class_type": "SaveImage", "inputs": {"images": ["2", 0]}}}
    path = URL(f"/v1/workflows/{name}", encoded=True)
    async with client.put(path, json=graph) as answer:
        await refused(answer)


@pytest.mark.parametrize(
    ("method", "path", "code"),
    [
        ("GET", "/api/tasks/x/y/z", "ROUTE_NOT_FOUND"),
        ("GET", "/api/comfyui-nothing", "ROUTE_NOT_FOUND"),
        ("GET", "/api/tasks/a%00b", "ROUTE_NOT_FOUND"),
        ("GET", "/api/tasks?user_id=a%00b", "INVALID_REQUEST"),
        ("PUT", "/api/tasks/create", "METHOD_NOT_ALLOWED"),
        ("POST", "/api/health", "METHOD_NOT_ALLOWED"),
        ("POST", "/api/status", "METHOD_NOT_ALLOWED"),
        ("GET", "/api/v1/workflows/nothing/here", "ROUTE_NOT_FOUND"),
        ("GET", "/api/v1/queue/nothing", "ROUTE_NOT_FOUND"),
        ("GET", "/api/v1/images/nothing", "ROUTE_NOT_FOUND"),
        ("GET", "/api/v1/ws/no-socket", "ROUTE_NOT_FOUND"),
        ("GET", "/api/v1/workflows/a%00b/history", "ROUTE_NOT_FOUND"),
        ("GET", "/api/v1/images/url?filename=%00", "INVALID_REQUEST"),
        ("DELETE", "/api/v1/queue/status", "METHOD_NOT_ALLOWED"),
        ("GET", "/api/v1/workflows/submit", "METHOD_NOT_ALLOWED"),
        # Other dialects' addresses beside theirs.
        ("GET", "/api/nothing", "ROUTE_NOT_FOUND"),
        ("PUT", "/api/status/some-job", "METHOD_NOT_ALLOWED"),
        ("GET", "/api/v1/nothing", "ROUTE_NOT_FOUND"),
    ],
)
async def test_address_that_is_none_is_told_in_the_dialects_shape(client, method, path, code):
    async with client.request(method, URL(path, encoded=True)) as answer:
        await refused(answer, code=code)
        assert (answer.status == 405) == ("Allow" in answer.headers)


@pytest.mark.parametrize(
    "path", ["/v1/jobs", "/api/tasks/create", "/api/v1/queue/clear", "/api/v1/images/upload"]
)
async def test_body_without_end_is_refused_at_the_limit(backstage, path):
    host, port = backstage.base.removeprefix("http://").split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    kind = FORM if path.endswith("upload") else JSON
    writer.write(
        f"POST {path} HTTP/1.1\r\nHost: x\r\nContent-Type: {kind['Content-Type']}\r\n"
        "Transfer-Encoding: chunked\r\n\r\n".encode()
    )
    start = part("file", b"", '; filename="a.png"')[:-2] if kind is FORM else b'{"a":"'
    writer.write(b"%x\r\n%b\r\n" % (len(start), start))
    chunk = b"100000\r\n" + b"a" * 0x100000 + b"\r\n"
    answer = asyncio.create_task(reader.readuntil(b"\r\n"))
    for _ in range(200):  # MB; the limit is 100
        writer.write(chunk)
        await writer.drain()
        if answer.done():
            break
    status = await asyncio.wait_for(answer, 10)
    writer.close()
    assert status.startswith(b"HTTP/1.1 413")


@pytest.mark.parametrize(
    "wanted",
    [
        "bytes=",
        "bytes=-",
        "bytes=--1",
        "bytes=9-1",
        "bytes=0-0,1-1",
        "bytes=" + "0-0," * 2000,
        "bytes=1e9-",
        "bytes=" + "9" * 400 + "-",
        "bytes=٣-",
        "pages=1-2",
        "bytes=-0",
        "bytes=99999999-",
    ],
)
async def test_range_that_can_not_be_is_everything_or_nothing(client, make_picture, wanted):
    data = make_picture()
    async with client.post("/v1/assets", data=data) as answer:
        asset = await answer.json()
    async with client.get(f"/v1/assets/{asset['id']}/content", headers={"Range": wanted}) as answer:
        body = await answer.read()
    if answer.status == 416:
        assert body == b""
        assert answer.headers["Content-Range"] == f"bytes */{asset['size_bytes']}"
    else:
        assert (answer.status, len(body)) == (200, asset["size_bytes"])
