"""Two API processes and a worker, each for itself, on PostgreSQL and a Redis of the test's own.

What a job does at the worker is heard at an API process as if it ran there; with Redis gone, too.
"""

import asyncio
import os
import shutil
import socket
import subprocess
import time
import uuid

import aiohttp
import orjson
import psycopg
import pytest

from atelier.examples import example_picture

POSTGRESQL = os.environ.get(
    "ATELIER_TEST_POSTGRESQL_URL", "postgresql://postgres@127.0.0.1:5432/postgres"
)
PATIENCE_SECONDS = 40.0
STYLISE = {
    "workflow": "style_change",
    "inputs": {"image": example_picture(), "style": "oil_painting"},
}


def painting(times):
    """A graph that paints the same picture over and over, far longer than anybody waits."""
    size = {"width": 512, "height": 512, "batch_size": 1, "color": 77}
    graph = {"1": {"class_type": "EmptyImage", "inputs": size}}
    for number in range(2, times + 2):
        inputs = {"image": [str(number - 1), 0], "style": "oil_painting", "strength": 0.6}
        graph[str(number)] = {
            "class_type": "AtelierStylise",
            "inputs": {**inputs, "seed": number},
        }
    inputs = {"images": [str(times + 1), 0], "filename_prefix": "painting"}
    graph["save"] = {"class_type": "SaveImage", "inputs": inputs}
    return {"workflow": graph}


def unavailable(reason):
    if os.environ.get("REQUIRE_SERVICES") == "1":
        pytest.fail(reason)
    pytest.skip(reason)


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.fixture(scope="module")
def database():
    name = f"atelier_test_{uuid.uuid4().hex[:12]}"
    try:
        server = psycopg.connect(POSTGRESQL, autocommit=True, connect_timeout=3)
    except psycopg.OperationalError as error:
        unavailable(f"postgresql isn't reachable: {error}")
    with server:
        server.execute(f"CREATE DATABASE {name}")
        yield f"{POSTGRESQL.rpartition('/')[0]}/{name}"
        server.execute(f"DROP DATABASE {name} WITH (FORCE)")


class Redis:
    def __init__(self, folder):
        self._folder, self.port = folder, free_port()
        self.url = f"redis://127.0.0.1:{self.port}/3"

    def start(self):
        options = ("--port", str(self.port), "--save", "", "--bind", "127.0.0.1")
        self._process = subprocess.Popen(
            ["redis-server", *options],
            cwd=self._folder,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )

    def kill(self):
        self._process.kill()
        self._process.wait(10)


@pytest.fixture(scope="module")
def redis(tmp_path_factory):
    if shutil.which("redis-server") is None:
        unavailable("redis-server isn't installed")
    server = Redis(tmp_path_factory.mktemp("redis"))
    server.start()
    yield server
    server.kill()


@pytest.fixture(scope="module")
def processes(new_part, database, redis, tmp_path_factory):
    """The addresses of the API processes."""
    ports = [free_port() for _ in range(3)]
    shared = {
        "DATABASE_URL": database,
        "REDIS_URL": redis.url,
        "STORAGE_URL": str(tmp_path_factory.mktemp("store")),
        "COMFYUI_URLS": f"http://127.0.0.1:{ports[0]}",
        "ATELIER_EMBEDDED_ENGINE": "never",
        "HOST": "127.0.0.1",
    }
    new_part("atelier.engine", "--port", str(ports[0]))
    worker = new_part("atelier", "worker", **shared)
    apis = [new_part("atelier", "api", PORT=str(port), **shared) for port in ports[1:]]
    worker.until_it_says("Redis is connected")
    for api in apis:
        api.until_it_says("Try it")
        api.until_it_says("Redis is connected")
    return [f"http://127.0.0.1:{port}" for port in ports[1:]]


@pytest.fixture
async def one(processes):
    async with aiohttp.ClientSession(processes[0]) as session:
        yield session


@pytest.fixture
async def other(processes):
    async with aiohttp.ClientSession(processes[1]) as session:
        yield session


async def submit(session, body, **more):
    user = f"user-{uuid.uuid4().hex[:8]}"
    async with session.post("/v1/jobs", json={**body, "user": user, **more}) as answer:
        assert answer.status == 202, await answer.text()
        return await answer.json()


async def job_of(session, id):
    async with session.get(f"/v1/jobs/{id}") as answer:
        return await answer.json()


async def listen(session, id, *, until=("finished", "failed", "cancelled"), after=None):
    """The job's events over SSE, pictures and nodes too, up to one of ``until``."""
    events = []
    headers = {"Last-Event-ID": after} if after else {}
    query = {"previews": "true", "nodes": "true"}
    async with (
        asyncio.timeout(PATIENCE_SECONDS),
        session.get(f"/v1/jobs/{id}/events", params=query, headers=headers) as stream,
    ):
        assert stream.status == 200
        async for line in stream.content:
            if line.startswith(b"data: "):
                events.append(orjson.loads(line[6:]))
                if events[-1]["type"] in until:
                    break
    return events


def kinds(events):
    return {event["type"] for event in events}


async def until_connected(part_url, state):
    async with aiohttp.ClientSession(part_url) as session, asyncio.timeout(PATIENCE_SECONDS):
        while True:
            async with session.get("/health") as answer:
                if ((await answer.json())["redis"] == "ok") == state:
                    return
            await asyncio.sleep(0.05)


async def test_processes_know_of_each_other(one):
    async with asyncio.timeout(PATIENCE_SECONDS):
        while True:
            async with one.get("/v1/workers") as answer:
                assert answer.status == 200
                workers = (await answer.json())["workers"]
            if len(workers) == 3:
                break
            await asyncio.sleep(0.1)
    assert sorted(worker["role"] for worker in workers) == ["api", "api", "worker"]
    assert {worker["state"] for worker in workers} == {"live"}
    assert {worker["host"] for worker in workers} == {socket.gethostname()}


async def test_all_that_the_worker_does_is_heard_at_an_api_process_over_sse(one):
    job = await submit(one, STYLISE)
    events = await listen(one, job["id"])
    assert events[-1]["type"] == "finished", events[-1]
    assert kinds(events) >= {"snapshot", "progress", "preview", "executing", "finished"}
    assert any(event["data"].get("image", "").startswith("data:image/") for event in events)
    assert any((event["data"].get("steps") or 0) > 1 for event in events)
    percents = [event["data"]["percent"] for event in events if event["type"] == "progress"]
    assert percents == sorted(percents)
    (output,) = events[-1]["data"]["outputs"]
    async with one.get(output["url"]) as answer:
        assert (answer.status, answer.content_type) == (200, "image/png")


async def test_the_same_over_a_websocket_at_both_api_processes(one, other):
    user = f"user-{uuid.uuid4().hex[:8]}"

    async def hear(session, ready):
        seen = []
        async with session.ws_connect("/v1/events") as socket_:
            subscribe = {"type": "subscribe", "user": user, "previews": True, "nodes": True}
            await socket_.send_json(subscribe)
            async for message in socket_:
                told = orjson.loads(message.data)
                if told["type"] == "subscribed":
                    ready.set()
                    continue
                seen.append(told)
                if told["type"] in ("finished", "failed"):
                    break
        return seen

    here, there = asyncio.Event(), asyncio.Event()
    async with asyncio.timeout(PATIENCE_SECONDS):
        async with asyncio.TaskGroup() as group:
            hearing = [
                group.create_task(hear(session, ready))
                for session, ready in ((one, here), (other, there))
            ]
            await asyncio.gather(here.wait(), there.wait())
            await submit(one, STYLISE, user=user)
    for task in hearing:
        seen = task.result()
        wanted = {"queued", "started", "progress", "preview", "executing", "finished"}
        assert kinds(seen) >= wanted
        assert [event["type"] for event in seen].count("finished") == 1


def succeeded(event):
    """Whether it tells of a success: as it came, or before anybody listened."""
    return event["type"] == "finished" or event["data"].get("status") == "succeeded"


async def test_who_is_cut_off_and_comes_to_another_process_gets_the_present_state(one, other):
    job = await submit(one, STYLISE)
    events = await listen(one, job["id"], until=("progress",))
    moved = await listen(other, job["id"], after=events[-1]["id"])
    assert moved[0]["type"] == "snapshot"
    assert succeeded(moved[-1])


async def test_cancel_at_one_process_ends_what_the_worker_runs(one, other):
    job = await submit(one, painting(200))
    await listen(one, job["id"], until=("executing",))
    assert (await job_of(other, job["id"]))["status"] == "running"
    hearing = asyncio.create_task(listen(one, job["id"]))
    await asyncio.sleep(0.2)
    began = time.monotonic()
    async with other.post(f"/v1/jobs/{job['id']}/cancel") as answer:
        assert answer.status == 200
    events = await hearing
    assert events[-1]["type"] == "cancelled", events[-1]
    assert time.monotonic() - began < 10
    assert (await job_of(one, job["id"]))["status"] == "cancelled"


async def test_losing_redis_in_the_middle_of_a_job_costs_nothing(processes, redis, one, other):
    """The last here: it disturbs the others."""
    job = await submit(one, STYLISE)
    hearing = asyncio.create_task(listen(one, job["id"]))
    redis.kill()
    try:
        assert succeeded((await hearing)[-1])
        # Without it from the beginning: the record is polled, and PostgreSQL wakes the worker.
        await until_connected(processes[1], False)
        job = await submit(other, STYLISE)
        events = await listen(other, job["id"])
        assert succeeded(events[-1])
        assert (await job_of(one, job["id"]))["attempts"] == 1
    finally:
        redis.start()
    # Its return is noticed by all, and pictures come through again.
    async with asyncio.timeout(PATIENCE_SECONDS):
        while True:
            job = await submit(one, STYLISE)
            events = await listen(one, job["id"])
            assert succeeded(events[-1])
            if "preview" in kinds(events):
                break
