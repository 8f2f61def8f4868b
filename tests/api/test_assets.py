from io import BytesIO

import aiohttp
import pytest
from PIL import Image

from atelier.api.files import byte_range, not_modified


@pytest.fixture
def upload(client, user):
    async def upload(data, **params):
        async with client.post(
            "/v1/assets",
            data=data,
            params={"user": user, **params},
            headers={"Content-Type": "image/png"},
        ) as answer:
            assert answer.status == 201, await answer.text()
            return await answer.json()

    return upload


async def test_raw_body_becomes_an_asset(client, upload, make_picture):
    asset = await upload(make_picture(), filename="red.png")
    assert (asset["width"], asset["height"], asset["media_type"]) == (16, 12, "image/png")
    assert asset["filename"] == "red.png"
    assert asset["created_at"].endswith("Z")
    async with client.get(f"/v1/assets/{asset['id']}") as answer:
        assert await answer.json() == asset


async def test_form_becomes_an_asset(client, make_picture):
    form = aiohttp.FormData(quote_fields=False)
    form.add_field("file", make_picture(), filename="rötlich.png", content_type="image/png")
    async with client.post("/v1/assets", data=form) as answer:
        assert answer.status == 201
        asset = await answer.json()
        assert answer.headers["Location"] == f"/v1/assets/{asset['id']}"
    assert asset["filename"] == "rötlich.png"
    async with client.get(asset["url"]) as answer:
        assert "filename*=UTF-8''r%C3%B6tlich.png" in answer.headers["Content-Disposition"]


async def test_asset_serves_as_a_jobs_input(upload, submit, make_picture):
    asset = await upload(make_picture())
    job = await submit({"image": f"asset:{asset['id']}"})
    assert job["inputs"]["image"] == {"asset": asset["id"]}


@pytest.mark.parametrize("data", [b"", b"no picture at all", b"\x89PNG\r\n\x1a\nbroken"])
async def test_what_is_no_picture_is_refused(client, data):
    async with client.post(
        "/v1/assets", data=data, headers={"Content-Type": "image/png"}
    ) as answer:
        assert answer.status == 422
        document = await answer.json(content_type="application/problem+json")
    assert document["detail"]


async def test_form_without_a_file_names_it(client, assert_problem):
    form = aiohttp.FormData({"note": "x"})
    form.add_field("other", b"x", filename="a.png")
    async with client.post("/v1/assets", data=form) as answer:
        document = await assert_problem(answer, 422, "INVALID_REQUEST")
    assert document["errors"][0]["field"] == "file"


async def test_malformed_form_is_a_problem(client):
    headers = {"Content-Type": "multipart/form-data; boundary=x"}
    async with client.post("/v1/assets", data=b"--x\r\nrubbish", headers=headers) as answer:
        assert 400 <= answer.status < 500
        assert answer.content_type == "application/problem+json"


async def test_content_is_cacheable_forever_and_harmless(client, upload, make_picture):
    asset = await upload(make_picture())
    async with client.get(asset["url"]) as answer:
        data = await answer.read()
        assert answer.headers["Content-Type"] == "image/png"
        assert "immutable" in answer.headers["Cache-Control"]
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
        assert answer.headers["Accept-Ranges"] == "bytes"
        etag = answer.headers["ETag"]
    assert Image.open(BytesIO(data)).size == (16, 12)
    async with client.get(asset["url"], headers={"If-None-Match": etag}) as answer:
        assert (answer.status, await answer.read()) == (304, b"")
        assert answer.headers["ETag"] == etag
    async with client.get(asset["url"], headers={"If-None-Match": '"other"'}) as answer:
        assert answer.status == 200


async def test_parts_of_the_content_can_be_fetched(client, upload, make_picture):
    asset = await upload(make_picture())
    async with client.get(asset["url"]) as answer:
        whole, etag = await answer.read(), answer.headers["ETag"]
    size = len(whole)
    for header, part in (
        ("bytes=0-3", whole[:4]),
        ("bytes=4-", whole[4:]),
        ("bytes=-5", whole[-5:]),
        (f"bytes=2-{size + 100}", whole[2:]),
    ):
        async with client.get(asset["url"], headers={"Range": header}) as answer:
            assert (answer.status, await answer.read()) == (206, part), header
            start = whole.index(part)
            expected = f"bytes {start}-{start + len(part) - 1}/{size}"
            assert answer.headers["Content-Range"] == expected
    async with client.get(asset["url"], headers={"Range": f"bytes={size}-"}) as answer:
        assert answer.status == 416
        assert answer.headers["Content-Range"] == f"bytes */{size}"
    stale = {"Range": "bytes=0-3", "If-Range": '"older"'}
    async with client.get(asset["url"], headers=stale) as answer:
        assert (answer.status, await answer.read()) == (200, whole)
    fresh = {"Range": "bytes=0-3", "If-Range": etag}
    async with client.get(asset["url"], headers=fresh) as answer:
        assert answer.status == 206


async def test_head_tells_size_without_content(client, upload, make_picture):
    asset = await upload(make_picture())
    async with client.head(asset["url"]) as answer:
        assert answer.status == 200
        assert int(answer.headers["Content-Length"]) == asset["size_bytes"]
        assert await answer.read() == b""


async def test_thumbnail_is_webp(client, upload, make_picture):
    asset = await upload(make_picture(size=(1200, 800)))
    async with client.get(asset["thumbnail_url"]) as answer:
        assert answer.headers["Content-Type"] == "image/webp"
        assert max(Image.open(BytesIO(await answer.read())).size) == 512


@pytest.mark.parametrize("suffix", ["", "/content", "/thumbnail"])
async def test_unknown_asset_is_not_found(client, assert_problem, suffix):
    for name in ("nope", "..%2F..%2Fatelier.db", "%00"):
        async with client.get(f"/v1/assets/{name}{suffix}") as answer:
            assert answer.status == 404
            assert answer.content_type == "application/problem+json"


@pytest.mark.parametrize(
    ("header", "span"),
    [
        (None, None),
        ("bytes=0-0", (0, 1)),
        ("bytes=0-", (0, 10)),
        ("bytes=9-", (9, 10)),
        ("bytes=10-", "beyond"),
        ("bytes=-1", (9, 10)),
        ("bytes=-100", (0, 10)),
        ("bytes=-0", "beyond"),
        ("bytes=5-2", None),  # not a range: ignored
        ("bytes=-", None),
        ("bytes=a-b", None),
        ("bytes=0-1,4-5", None),  # several: all is sent
        ("items=0-1", None),
        ("bytes= 2 - 3", (2, 4)),
        ("bytes=" + "9" * 30 + "-", None),
    ],
)
def test_range_of_ten_bytes(header, span):
    assert byte_range(header, 10) == span


def test_nothing_has_no_range():
    assert byte_range("bytes=0-", 0) == "beyond"
    assert byte_range("bytes=-1", 0) == "beyond"


@pytest.mark.parametrize(
    ("condition", "same"),
    [('"a"', True), ('W/"a"', True), ('"b", "a"', True), ("*", True), ('"b"', False), ("", False)],
)
def test_condition_compares_tags_weakly(condition, same):
    assert not_modified(condition, '"a"') is same
