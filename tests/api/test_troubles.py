"""What callers see when something behind the API fails: fakes at its port, a real server."""

import asyncio
import json
from contextlib import asynccontextmanager, nullcontext

import aiohttp
import pytest
import structlog
import uvicorn

from atelier.api import create_api
from atelier.api.streams import batches
from atelier.app import listen
from atelier.database import DatabaseUnavailable
from atelier.errors import InstanceError, StorageError
from atelier.events import event
from atelier.events.memory import MemoryBus
from atelier.jobs.job import Job, Progress
from atelier.service import Health, JobView, Services


def job(id="j", status="queued", user="u"):
    return JobView(
        Job(
            id=id,
            user=user,
            workflow="style_change",
            workflow_version="1",
            variant=None,
            requirement="r",
            model=None,
            status=status,
            priority=0,
            progress=Progress(),
            inputs={},
            graph=None,
            seed=1,
            outputs=(),
            error=None,
            attempts=0,
            max_attempts=3,
            instance=None,
            worker=None,
            prompt_id=None,
            lease=0,
            cancel_requested=False,
            created_at_ms=1,
            started_at_ms=None,
            submitted_at_ms=None,
            finished_at_ms=None,
            updated_at_ms=1,
            deleted_at_ms=None,
            run_after_ms=0,
            estimate_ms=None,
            timings={},
            metadata={},
            dialect="native",
            batch=None,
            label=None,
            **({"fingerprint": None} if "fingerprint" in Job.__dataclass_fields__ else {}),
        )
    )


class Generations:
    """Jobs that fail as told, or follow a bus."""

    def __init__(self, error=None):
        self.error = error
        self.bus = MemoryBus(backlog=10, seconds_per_listener=0.0)
        self.view = job()

    async def get(self, id, *, user=None):
        if self.error is not None:
            raise self.error
        return self.view

    submit = cancel = list = retry = delete = lambda self, *args, **named: self.get("j")

    @asynccontextmanager
    async def follow(self, **named):
        async with self.bus.subscribe(**named) as subscription:
            yield subscription


class Overview:
    ok = True

    async def health(self):
        return Health(
            ok=self.ok,
            status="ok" if self.ok else "unavailable",
            message="The database can't be reached.",
            database="ok" if self.ok else "can't be reached",
            redis="not configured",
            storage="ok",
            instances=(),
            waiting=0,
            workers=1,
        )


@pytest.fixture
def generations():
    return Generations()


@pytest.fixture
def overview():
    return Overview()


@pytest.fixture
def shutting_down():
    return asyncio.Event()


@asynccontextmanager
async def serving(app):
    listener = listen("127.0.0.1", 0)
    config = uvicorn.Config(app, log_config=None, lifespan="off", ws="websockets-sansio")
    server = uvicorn.Server(config)
    server.capture_signals = _no_signals
    task = asyncio.create_task(server.serve(sockets=[listener]))
    async with aiohttp.ClientSession(
        f"http://127.0.0.1:{listener.getsockname()[1]}", timeout=aiohttp.ClientTimeout(total=20)
    ) as session:
        session.server = server
        yield session
    server.should_exit = True
    await task


def _no_signals():
    return nullcontext()


@pytest.fixture
async def troubled(generations, overview, shutting_down):
    services = Services(generations, None, overview, *[None] * 5)
    app = create_api(services, shutting_down=shutting_down, max_body_bytes=1000)
    async with serving(app) as session:
        yield session


async def test_bug_is_a_500_without_internals_and_logged_with_its_trace(
    troubled, generations, assert_problem
):
    generations.error = KeyError("secret detail")
    with structlog.testing.capture_logs() as logs:
        async with troubled.get("/v1/jobs/j") as answer:
            text = await answer.text()
            await assert_problem(answer, 500, "INTERNAL_ERROR")
    assert "secret" not in text
    assert "KeyError" not in text
    (unhandled,) = [entry for entry in logs if entry["event"] == "unhandled"]
    assert unhandled["exc_info"]


async def test_every_request_is_logged_with_method_path_status_and_duration(troubled):
    with structlog.testing.capture_logs() as logs:
        async with troubled.get("/v1/jobs/j"):
            pass
    (entry,) = [entry for entry in logs if entry["event"] == "request"]
    assert (entry["method"], entry["path"], entry["status"]) == ("GET", "/v1/jobs/j", 200)
    assert entry["milliseconds"] >= 0


@pytest.mark.parametrize("path", ["/v1/jobs/j", "/api/v1/task/j", "/v1/jobs/j/events"])
async def test_database_that_is_away_is_a_503_that_says_when_to_return(
    troubled, generations, assert_problem, path
):
    generations.error = DatabaseUnavailable("The database can't be reached.")
    async with troubled.get(path) as answer:
        document = await assert_problem(answer, 503, generations.error.code)
        assert int(answer.headers["Retry-After"]) > 0
    assert document["retryable"] is True


async def test_batch_is_refused_as_a_whole_when_the_database_is_away(
    troubled, generations, assert_problem
):
    async def submit_many(submissions):
        return [DatabaseUnavailable("The database can't be reached.") for _ in submissions]

    generations.submit_many = submit_many
    body = {"user_id": "u", "image_urls": ["http://x.example/a.png"] * 2}
    async with troubled.post("/api/v1/transform/batch", json=body) as answer:
        assert answer.status == 503
        assert "Retry-After" in answer.headers


@pytest.mark.parametrize(("error", "status"), [(StorageError, 503), (InstanceError, 502)])
async def test_status_follows_the_branch_of_the_error_tree(
    troubled, generations, assert_problem, error, status
):
    class Special(error):
        code = "SPECIAL"

    generations.error = Special("Something special.", hint="Do this.", detail=1)
    async with troubled.get("/v1/jobs/j") as answer:
        document = await assert_problem(answer, status, "SPECIAL")
    assert (document["hint"], document["data"]) == ("Do this.", {"detail": 1})


async def test_health_is_503_when_the_service_cannot_work(troubled, overview):
    overview.ok = False
    for path in ("/health", "/ready"):
        async with troubled.get(path) as answer:
            assert answer.status == 503, path
            document = await answer.json()
    assert document["ready"] is False
    async with troubled.get("/health") as answer:
        health = await answer.json()
    assert (health["status"], health["mysql"]) == ("unavailable", "can't be reached")


async def test_too_large_body_is_refused_though_it_never_said_its_size(troubled, assert_problem):
    async def drip():
        for _ in range(20):
            yield b"x" * 100

    headers = {"Content-Type": "application/json"}
    async with troubled.post("/v1/jobs", data=drip(), headers=headers) as answer:
        await assert_problem(answer, 413, "BODY_TOO_LARGE")


async def test_slow_listener_is_let_go_so_that_he_can_resume(troubled, generations):
    async with troubled.get("/v1/events", params={"user": "u"}) as answer:
        await answer.content.readline()
        for number in range(11):
            generations.bus.publish(event.queued(f"j{number}", "u"))
        async with asyncio.timeout(5):
            rest = await answer.content.read()
    assert b"queued" not in rest


async def test_shutdown_ends_streams_at_once(troubled, shutting_down):
    async with (
        troubled.get("/v1/events", params={"user": "u"}) as one,
        troubled.get("/v1/jobs/j/events") as other,
        troubled.ws_connect("/api/v1/user/u/ws") as socket,
    ):
        await one.content.readline()
        await other.content.readline()
        shutting_down.set()
        async with asyncio.timeout(5):
            await one.content.read()
            await other.content.read()
            closing = await socket.receive()
        assert closing.data == 1012
        async with troubled.get("/v1/events", params={"user": "u"}) as late, asyncio.timeout(5):
            await late.content.read()


async def test_previews_come_only_to_who_asks(troubled, generations):
    picture = event.preview("j", "u", image=b"x", media_type="image/jpeg")

    async def kinds(query):
        async with troubled.get(f"/v1/jobs/j/events{query}") as answer:
            await answer.content.readline()
            generations.bus.publish(picture)
            generations.bus.publish(event.cancelled("j", "u"))
            text = (await answer.content.read()).decode()
        return [line[7:] for line in text.splitlines() if line.startswith("event: ")]

    assert await kinds("") == ["cancelled"]
    assert await kinds("?previews=true") == ["preview", "cancelled"]


async def test_socket_gives_previews_when_asked(troubled, generations):
    async with troubled.ws_connect("/v1/events") as socket:
        await socket.send_json({"type": "subscribe", "job": "j", "previews": True})
        assert (await socket.receive_json())["type"] == "subscribed"
        generations.bus.publish(event.preview("j", "u", image=b"x", media_type="image/jpeg"))
        told = await socket.receive_json()
    assert told["data"]["image"] == "data:image/jpeg;base64,eA=="


async def test_event_is_encoded_once_for_all_listeners(troubled, generations):
    async with (
        troubled.get("/v1/events", params={"user": "u"}) as one,
        troubled.get("/v1/events", params={"user": "u"}) as other,
    ):
        await one.content.readline()
        await other.content.readline()
        told = generations.bus.publish(event.progress("j", "u", percent=3))
        for answer in (one, other):
            while not (await answer.content.readline()).startswith(b"data: "):
                pass
    assert set(told._wire) == {"sse:native"}


async def test_end_that_nobody_told_is_noticed_in_a_silence(generations):
    async with generations.bus.subscribe(job="j") as subscription:
        seen = []
        async for events in batches(subscription, "j", generations, 0.01):
            seen.append([one.type for one in events])
            generations.view = job(status="succeeded")
    assert seen[0] == []
    assert seen[-1] == ["snapshot"]


async def test_silence_is_filled_while_the_database_is_away(generations):
    generations.error = DatabaseUnavailable("away")
    async with generations.bus.subscribe(job="j") as subscription:
        silences = batches(subscription, "j", generations, 0.01)
        assert [await anext(silences), await anext(silences)] == [(), ()]


async def test_bug_behind_a_socket_closes_it_and_is_logged(troubled, generations):
    generations.error = KeyError("secret")
    with structlog.testing.capture_logs() as logs:
        async with troubled.ws_connect("/v1/events") as socket:
            await socket.send_str(json.dumps({"type": "subscribe", "job": "j"}))
            closing = await socket.receive()
    assert closing.type is aiohttp.WSMsgType.CLOSE
    assert closing.data == 1011
    assert "unhandled" in {entry["event"] for entry in logs}
