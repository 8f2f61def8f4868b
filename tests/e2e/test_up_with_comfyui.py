"""`atelier up` on a ComfyUI that runs: the same photo, by diffusion."""

import io
import random

import aiohttp
import orjson
import pytest
from PIL import Image

from atelier.examples import example_photo

STEPS = 4


@pytest.fixture(scope="module")
def up(new_up, comfyui_url):
    return new_up(COMFYUI_URLS=comfyui_url, ATELIER_EMBEDDED_ENGINE="auto").start()


@pytest.fixture
async def http(up):
    timeout = aiohttp.ClientTimeout(total=180)
    async with aiohttp.ClientSession(up.base, timeout=timeout) as session:
        async with session.get("/v1/workflows/style_change") as answer:
            variant = (await answer.json())["variant"]
        if variant != "diffusion":
            pytest.skip("the ComfyUI to check against has no checkpoint")
        yield session
        # However a test ended, the ComfyUI isn't kept busy with what nobody waits for.
        for status in ("queued", "running"):
            async with session.get("/v1/jobs", params={"status": status}) as answer:
                left = (await answer.json())["jobs"]
            for job in left:
                async with session.post(f"/v1/jobs/{job['id']}/cancel") as answer:
                    await answer.read()


async def upload(http):
    form = aiohttp.FormData()
    form.add_field("file", example_photo().read_bytes(), filename="photo.jpg")
    async with http.post("/v1/assets", data=form) as answer:
        return {"asset": (await answer.json())["id"]}


async def follow(http, path):
    """(type, data) of each event of a stream, to its end."""
    events, kind = [], ""
    async with http.get(path) as stream:
        async for raw in stream.content:
            line = raw.decode().rstrip("\r\n")
            if line.startswith("event:"):
                kind = line[6:].strip()
            elif line.startswith("data:"):
                data = orjson.loads(line[5:])
                events.append((kind, data.get("data", data)))
    return events


async def makes_previews(comfyui_url):
    """ComfyUI makes them only when it was started so."""
    async with (
        aiohttp.ClientSession() as session,
        session.get(f"{comfyui_url}/system_stats") as answer,
    ):
        return "--preview-method" in (await answer.json())["system"]["argv"]


def test_it_uses_the_comfyui_and_no_embedded_engine(up, comfyui_url):
    assert f"ComfyUI at {comfyui_url}: ready" in up.said
    assert not (up.folder / "data" / "engine").exists()


async def test_photo_comes_back_by_diffusion_with_its_steps_as_progress(http, comfyui_url):
    inputs = {
        "image": await upload(http),
        "style": "oil_painting",
        "megapixels": 0.01,
        "steps": STEPS,
        "strength": 1.0,
        "seed": random.randrange(1 << 50),  # ComfyUI would answer the same from its cache
    }
    async with http.post("/v1/jobs", json={"workflow": "style_change", "inputs": inputs}) as answer:
        assert answer.status == 202, await answer.text()
        job = await answer.json()
    events = await follow(http, f"/v1/jobs/{job['id']}/events?previews=1")
    assert events[-1][0] == "finished", events[-1]
    progress = [data for kind, data in events if kind == "progress"]
    steps = [(data["step"], data["steps"]) for data in progress if data.get("steps")]
    # Of what comes within a moment only the newest is told, so one of them may be missing.
    assert len({step for step, _ in steps} & set(range(1, STEPS + 1))) >= STEPS - 1
    assert {of for _, of in steps} == {STEPS}
    percents = [data["percent"] for data in progress]
    assert percents == sorted(percents)
    previews = [data for kind, data in events if kind == "preview"]
    if await makes_previews(comfyui_url):
        assert previews[0]["image"].startswith("data:image/")
    async with http.get(f"/v1/jobs/{job['id']}") as answer:
        job = await answer.json()
    assert (job["status"], job["variant"], job["attempts"]) == ("succeeded", "diffusion", 1)
    assert job["seed"] == inputs["seed"]
    (output,) = job["outputs"]
    async with http.get(output["url"]) as answer:
        picture = Image.open(io.BytesIO(await answer.read()))
    assert picture.size == (output["width"], output["height"])
    assert picture.width * picture.height == pytest.approx(10_000, rel=0.3)


async def test_unknown_checkpoint_is_refused_with_those_that_there_are(http):
    inputs = {"image": await upload(http), "model": "no-such.safetensors"}
    async with http.post("/v1/jobs", json={"workflow": "style_change", "inputs": inputs}) as answer:
        problem = await answer.json()
    assert answer.status >= 400
    assert "no-such.safetensors" in orjson.dumps(problem).decode()


async def test_cancel_stops_the_sampler(http):
    inputs = {
        "image": await upload(http),
        "megapixels": 0.01,
        "steps": 150,
        "strength": 1.0,
        "seed": random.randrange(1 << 50),
    }
    async with http.post("/v1/jobs", json={"workflow": "style_change", "inputs": inputs}) as answer:
        job = await answer.json()
    async with http.get(f"/v1/jobs/{job['id']}/events") as stream:
        async for raw in stream.content:
            if raw.startswith(b"data:") and orjson.loads(raw[5:]).get("data", {}).get("steps"):
                break
    async with http.post(f"/v1/jobs/{job['id']}/cancel") as answer:
        assert answer.status in (200, 202)
    events = await follow(http, f"/v1/jobs/{job['id']}/events")
    assert events[-1][0] in ("cancelled", "snapshot")
    async with http.get(f"/v1/jobs/{job['id']}") as answer:
        assert (await answer.json())["status"] == "cancelled"
