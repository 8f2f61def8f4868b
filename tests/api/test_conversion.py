"""Pictures as callers want them, and files that are no pictures."""

import asyncio
import base64
from io import BytesIO

import aiohttp
import pytest
from PIL import Image


@pytest.fixture
def keep(backstage):
    """Keep bytes as they are and return the asset's id."""

    async def keep(data):
        url = f"data:;base64,{base64.b64encode(data).decode()}"
        assets = backstage.app.services.assets
        return (await backstage.call(assets.keep_data_url(url, user="ada"))).id

    return keep


def moving():
    first, *others = [Image.new("RGB", (60, 40), (60 * n, 40, 90)) for n in range(3)]
    out = BytesIO()
    first.save(out, "GIF", save_all=True, append_images=others, duration=80)
    return out.getvalue()


async def test_picture_is_converted_when_it_is_read(client, keep, make_picture):
    id = await keep(make_picture(size=(320, 240)))
    url = f"/v1/assets/{id}/content?format=webp&quality=80&max_size=100"
    async with client.get(url) as answer:
        assert (answer.status, answer.headers["Content-Type"]) == (200, "image/webp")
        data, etag = await answer.read(), answer.headers["ETag"]
        assert "immutable" in answer.headers["Cache-Control"]
    assert Image.open(BytesIO(data)).size == (100, 75)
    async with client.get(url) as answer:
        assert (await answer.read(), answer.headers["ETag"]) == (data, etag)
    async with client.get(url, headers={"If-None-Match": etag}) as answer:
        assert (answer.status, await answer.read()) == (304, b"")
    async with client.get(url, headers={"Range": "bytes=0-3"}) as answer:
        assert (answer.status, await answer.read()) == (206, b"RIFF")
    async with client.head(url) as answer:
        assert int(answer.headers["Content-Length"]) == len(data)
    async with client.get(f"/v1/assets/{id}/content") as answer:
        assert answer.headers["Content-Type"] == "image/png"
        assert answer.headers["ETag"] != etag


async def test_converted_file_has_the_name_of_its_form(client, make_picture):
    form = aiohttp.FormData()
    form.add_field("file", make_picture(), filename="red.png", content_type="image/png")
    async with client.post("/v1/assets", data=form) as answer:
        asset = await answer.json()
    async with client.get(f"{asset['url']}?format=jpg") as answer:
        assert answer.headers["Content-Type"] == "image/jpeg"
        assert "red.jpg" in answer.headers["Content-Disposition"]


async def test_animation_stays_one(client, keep):
    id = await keep(moving())
    async with client.get(f"/v1/assets/{id}") as answer:
        asset = await answer.json()
    assert (asset["kind"], asset["frames"]) == ("animation", 3)
    async with client.get(f"/v1/assets/{id}/content?format=webp&max_size=30") as answer:
        shown = Image.open(BytesIO(await answer.read()))
    assert (shown.n_frames, shown.size) == (3, (30, 20))


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ("format=bmp", "format"),
        ("format=", "format"),
        ("quality=0", "quality"),
        ("quality=101", "quality"),
        ("quality=high", "quality"),
        ("max_size=0", "max_size"),
        ("max_size=1000000", "max_size"),
        ("max_size=1.5", "max_size"),
    ],
)
async def test_wrong_parameter_is_named(client, keep, make_picture, assert_problem, query, field):
    id = await keep(make_picture())
    async with client.get(f"/v1/assets/{id}/content?{query}") as answer:
        document = await assert_problem(answer, 422, "INVALID_REQUEST")
    assert [error["field"] for error in document["errors"]] == [field]


@pytest.mark.parametrize(
    "data",
    [
        b"just words",
        b"\0\0\0\x18ftypmp42" + bytes(100),
        b"<svg xmlns='http://www.w3.org/2000/svg'/>",
    ],
)
async def test_what_is_no_picture_is_not_converted(client, keep, assert_problem, data):
    id = await keep(data)
    async with client.get(f"/v1/assets/{id}/content?format=webp") as answer:
        document = await assert_problem(answer, 422, "NOT_CONVERTIBLE")
    assert "Leave out format" in document["hint"]
    async with client.get(f"/v1/assets/{id}/content") as answer:
        assert await answer.read() == data


async def test_damaged_picture_is_a_problem_and_not_a_failure(
    client, keep, make_picture, assert_problem
):
    id = await keep(make_picture(size=(300, 300))[:150])
    async with client.get(f"/v1/assets/{id}/content?format=webp") as answer:
        await assert_problem(answer, 422, "NOT_AN_IMAGE")


async def test_many_who_ask_at_once_get_the_same(client, keep, make_picture):
    id = await keep(make_picture(size=(640, 480)))

    async def fetch():
        async with client.get(f"/v1/assets/{id}/content?format=avif&max_size=200") as answer:
            assert answer.status == 200
            return await answer.read()

    assert len(set(await asyncio.gather(*(fetch() for _ in range(8))))) == 1


@pytest.mark.parametrize(
    ("data", "media_type", "disposition"),
    [
        (b"<html><script>alert(1)</script>", "text/html", "attachment"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "image/svg+xml", "attachment"),
        (b"%PDF-1.7", "application/pdf", "attachment"),
        ("größer".encode(), "text/plain", "inline"),
        (b"\0\0\0\x18ftypmp42" + bytes(100), "video/mp4", "inline"),
    ],
)
async def test_what_a_browser_could_run_is_only_downloaded(
    client, keep, data, media_type, disposition
):
    id = await keep(data)
    async with client.get(f"/v1/assets/{id}/content") as answer:
        assert answer.content_type == media_type
        assert answer.headers["Content-Disposition"].startswith(disposition)
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
        assert "sandbox" in answer.headers["Content-Security-Policy"]
        if media_type == "text/plain":
            assert answer.charset == "utf-8"


async def test_part_of_a_video_can_be_fetched(client, keep):
    data = b"\0\0\0\x18ftypmp42" + bytes(range(256)) * 20
    id = await keep(data)
    async with client.get(f"/v1/assets/{id}/content", headers={"Range": "bytes=100-"}) as answer:
        assert (answer.status, answer.content_type) == (206, "video/mp4")
        assert await answer.read() == data[100:]


# -- asked for with the job ------------------------------------------------------------------------


async def test_job_remembers_how_its_pictures_are_wanted(submit):
    job = await submit(output={"format": "webp", "max_size": 1024})
    assert job["output"] == {"format": "webp", "quality": None, "max_size": 1024}
    assert (job["previews"], job["cached"], job["cached_from"]) == ([], False, None)
    assert (await submit())["output"] is None
    assert (await submit(output={}))["output"] is None


async def test_form_may_say_how_pictures_are_wanted(client, make_picture):
    form = aiohttp.FormData({"style": "clay", "format": "jpg", "quality": "70", "max_size": ""})
    form.add_field("image", make_picture(), filename="a.png", content_type="image/png")
    async with client.post("/v1/workflows/style_change", data=form) as answer:
        assert answer.status == 202, await answer.text()
        job = await answer.json()
    assert job["output"] == {"format": "jpeg", "quality": 70, "max_size": None}
    assert "format" not in job["inputs"]


async def test_address_may_say_how_pictures_are_wanted(client):
    body = {"image": "http://pictures.example/cat.png"}
    url = "/v1/workflows/style_change?format=avif&quality=50"
    async with client.post(url, json=body) as answer:
        assert (await answer.json())["output"]["format"] == "avif"


@pytest.mark.parametrize("accept", ["image/webp", "image/webp, */*"])
async def test_accepted_format_is_how_the_picture_is_wanted(client, accept):
    body = {"image": "http://pictures.example/cat.png"}
    headers = {"Accept": accept, "Prefer": "wait=0"}
    url = "/v1/workflows/style_change?quality=50"
    async with client.post(url, json=body, headers=headers) as answer:
        assert answer.status == 202
        job = await answer.json()
    assert job["output"] == {"format": "webp", "quality": 50, "max_size": None}


async def test_wrong_field_of_a_form_is_named(client, make_picture, assert_problem):
    form = aiohttp.FormData({"format": "tga", "quality": "best"})
    form.add_field("image", make_picture(), filename="a.png", content_type="image/png")
    async with client.post("/v1/workflows/style_change", data=form) as answer:
        document = await assert_problem(answer, 422, "CONVERSION_INVALID")
    assert [error["field"] for error in document["errors"]] == ["format", "quality"]
    assert document["errors"][0]["allowed"] == ["png", "jpeg", "webp", "avif"]
