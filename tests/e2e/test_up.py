"""`atelier up` as a newcomer meets it: an empty folder, one command, the line that it prints."""

import asyncio
import itertools
import os
import shlex
import shutil
import signal
import subprocess
import time
import urllib.request
from pathlib import Path

import aiohttp
import numpy as np
import pytest
from PIL import Image

from atelier.examples import example_photo, example_picture

STYLES = ("clay", "anime", "realistic", "cartoon", "oil_painting")


def curl_line(said):
    return next(line.strip() for line in said.splitlines() if line.strip().startswith("curl "))


async def run_line(line, folder):
    """What a shell does with the line, or the same by hand where there is no curl."""
    if shutil.which("curl"):
        process = await asyncio.create_subprocess_shell(
            line, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
        said = await process.communicate()
        assert process.returncode == 0, said
        return
    await asyncio.to_thread(post_by_hand, shlex.split(line), folder)


def post_by_hand(words, folder):
    """Send the form that curl's arguments say, and write the answer where they say."""
    options = list(itertools.pairwise(words))
    parts = [value.partition("=")[::2] for option, value in options if option == "-F"]
    boundary = "a-boundary-that-no-photo-has"
    body = b""
    for name, text in parts:
        is_file = text.startswith("@")
        extra = '; filename="photo.jpg"' if is_file else ""
        content = Path(text[1:]).read_bytes() if is_file else text.encode()
        head = f'--{boundary}\r\nContent-Disposition: form-data; name="{name}"{extra}\r\n\r\n'
        body += head.encode() + content + b"\r\n"
    headers = dict(value.split(": ", 1) for option, value in options if option == "-H")
    headers["Content-Type"] = f"multipart/form-data; boundary={boundary}"
    url = next(word for word in words if word.startswith("http"))
    request = urllib.request.Request(url, body + f"--{boundary}--\r\n".encode(), headers)
    target = next(value for option, value in options if option == "-o")
    with urllib.request.urlopen(request, timeout=60) as answer:
        (folder / target).write_bytes(answer.read())


def pixels(path, size):
    with Image.open(path) as picture:
        return np.asarray(picture.convert("RGB").resize(size), np.float32)


@pytest.fixture
async def http(up):
    timeout = aiohttp.ClientTimeout(total=60)
    async with aiohttp.ClientSession(up.base, timeout=timeout) as session:
        yield session


async def run_job(http, body, seconds=60):
    """The job's document once it has ended."""
    headers = {"Prefer": f"wait={seconds}"}
    async with http.post("/v1/jobs", json=body, headers=headers) as answer:
        document = await answer.json()
        assert answer.status in (200, 202), document
    return document


def test_it_says_what_it_started(up):
    assert f"atelier is up: {up.base}" in up.said
    assert "embedded CPU engine: ready" in up.said
    assert "Set COMFYUI_URLS for diffusion" in up.said
    assert f"{up.base}/docs" in up.said
    assert "Traceback" not in up.said


async def test_printed_line_brings_back_a_stylised_picture_in_each_style(up, tmp_path):
    line = curl_line(up.said)
    assert "style=clay" in line
    results = {}
    for style in STYLES:
        changed = line.replace("style=clay", f"style={style}").replace("clay.png", f"{style}.png")
        await run_line(changed, tmp_path)
        results[style] = tmp_path / f"{style}.png"
    with Image.open(example_photo()) as photo:
        size = photo.size
        before = np.asarray(photo.convert("RGB"), np.float32)
    after = {style: pixels(path, size) for style, path in results.items()}
    for style, picture in after.items():
        with Image.open(results[style]) as made:
            assert made.format == "PNG"
            assert made.width / made.height == pytest.approx(size[0] / size[1], rel=0.02)
        # Out of 255, over all pixels: nobody would take one for the other.
        assert np.abs(picture - before).mean() > 4, style
        # Still the same picture, not noise or a plain colour.
        assert np.corrcoef(picture.ravel(), before.ravel())[0, 1] > 0.5, style
    for one, other in itertools.combinations(STYLES, 2):
        assert np.abs(after[one] - after[other]).mean() > 4, (one, other)


async def test_job_tells_its_variant_and_progress_and_its_picture_can_be_fetched(up, http):
    body = {"workflow": "style_change", "inputs": {"image": example_picture(), "style": "anime"}}
    async with http.post("/v1/jobs", json=body) as answer:
        assert answer.status == 202
        job = await answer.json()
    kinds = []
    async with http.get(f"/v1/jobs/{job['id']}/events") as stream:
        async for line in stream.content:
            if line.startswith(b"event:"):
                kinds.append(line[6:].strip().decode())  # noqa: PERF401
    assert kinds[-1] == "finished"
    async with http.get(f"/v1/jobs/{job['id']}") as answer:
        job = await answer.json()
    assert (job["status"], job["variant"], job["attempts"]) == ("succeeded", "classic", 1)
    assert job["progress"]["percent"] == 100
    (output,) = job["outputs"]
    async with http.get(output["url"]) as answer:
        assert (answer.status, answer.content_type) == (200, "image/png")
        assert len(await answer.read()) == output["size_bytes"]


@pytest.mark.parametrize(
    "url", ["http://127.0.0.1:1/x.png", "http://169.254.169.254/latest/meta-data/"]
)
async def test_address_inside_the_network_fails_the_job_at_once(http, url):
    job = await run_job(http, {"workflow": "style_change", "inputs": {"image": url}})
    assert (job["status"], job["attempts"]) == ("failed", 1)
    assert job["error"]["code"] == "URL_REFUSED"
    assert job["error"]["hint"]


def test_run_uses_the_service_that_runs(up, atelier, tmp_path, small_photo):
    done = atelier(
        *("run", "style_change", "-i", f"image={small_photo}", "-i", "style=clay"),
        *("-o", "out.png"),
        cwd=tmp_path,
        PORT=str(up.port),
    )
    assert done.returncode == 0, done.stderr
    assert "wrote out.png" in done.stderr
    with Image.open(tmp_path / "out.png") as picture:
        assert picture.format == "PNG"
    assert not (tmp_path / "data").exists(), "it started nothing of its own"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("style_change", "-i", "image=http://127.0.0.1:1/x.png"), "ATELIER_FETCH_ALLOW"),
        (("no_such_workflow",), "style_change"),
    ],
)
def test_run_that_fails_says_why(up, atelier, tmp_path, arguments, said):
    done = atelier("run", *arguments, cwd=tmp_path, ATELIER_URL=up.base)
    assert done.returncode == 1
    assert said in done.stderr
    assert "Traceback" not in done.stderr


async def test_engine_that_died_is_started_again(up, http):
    before = up.engine
    os.kill(before["pid"], signal.SIGKILL)
    job = await run_job(http, {"workflow": trivial(1)})
    assert (job["status"], job["attempts"]) == ("succeeded", 1)
    assert up.engine["pid"] != before["pid"]


def test_sigterm_ends_it_soon_and_takes_the_engine_along(up):
    """The last here: it ends the module's service."""
    engine = up.engine
    code, seconds = up.stop()
    assert code == 0, up.said
    assert seconds < 5
    assert "Traceback" not in up.said
    deadline = time.monotonic() + 3
    while is_alive(engine["pid"]) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not is_alive(engine["pid"])


def is_alive(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    # A process whose parent hasn't asked for its end yet is none any more.
    stat = Path(f"/proc/{pid}/stat")
    return not stat.exists() or ") Z " not in stat.read_text()


def trivial(number):
    inputs = {"width": 64, "height": 64, "batch_size": 1, "color": number * 4099}
    return {
        "1": {"class_type": "EmptyImage", "inputs": inputs},
        "2": {"class_type": "SaveImage", "inputs": {"images": ["1", 0], "filename_prefix": "x"}},
    }


async def test_kill_in_the_middle_of_twenty_jobs_loses_none_and_runs_none_twice(new_up):
    up = new_up().start()
    timeout = aiohttp.ClientTimeout(total=60)
    async with aiohttp.ClientSession(up.base, timeout=timeout) as http:
        ids = []
        for number in range(20):
            body = {"workflow": trivial(number)}
            if number % 2:
                inputs = {"image": example_picture(), "style": STYLES[number % 5], "seed": number}
                body = {"workflow": "style_change", "inputs": inputs}
            async with http.post("/v1/jobs", json=body) as answer:
                assert answer.status == 202
                ids.append((await answer.json())["id"])
        while True:
            async with http.get("/v1/jobs?limit=50&status=succeeded") as answer:
                done = len((await answer.json())["jobs"])
            if done >= 4:
                break
            await asyncio.sleep(0.02)
        up.kill()
    assert done < 20
    engine = up.engine
    up.start()
    assert up.engine == engine, "the engine that outlived it is used again"
    async with aiohttp.ClientSession(up.base, timeout=timeout) as http:
        deadline = time.monotonic() + 60
        while True:
            async with http.get("/v1/jobs?limit=50") as answer:
                jobs = (await answer.json())["jobs"]
            if all(job["status"] == "succeeded" for job in jobs):
                break
            assert not [job for job in jobs if job["status"] in ("failed", "cancelled")]
            assert time.monotonic() < deadline, jobs
            await asyncio.sleep(0.05)
        assert {job["id"] for job in jobs} == set(ids)
        assert [len(job["outputs"]) for job in jobs] == [1] * 20
        for job in jobs:
            async with http.get(job["outputs"][0]["url"]) as answer:
                assert answer.status == 200
        async with http.get(f"{engine['url']}/history") as answer:
            history = await answer.json()
    assert len(history) == 20
    assert up.stop()[0] == 0


def test_run_alone_starts_what_it_needs_and_ends_it(atelier, tmp_path, port, small_photo):
    done = atelier(
        *("run", "style_change", "-i", f"image={small_photo}", "-i", "style=cartoon"),
        *("-o", "out.png"),
        cwd=tmp_path,
        PORT=str(port),
        ATELIER_EMBEDDED_ENGINE="always",
    )
    assert done.returncode == 0, done.stderr
    with Image.open(tmp_path / "out.png") as picture:
        assert picture.format == "PNG"
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "data" / "engine" / "engine.json").exists(), "the engine has ended"
