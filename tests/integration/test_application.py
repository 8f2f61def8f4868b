"""The composition root: parts that run apart, on one database and store."""

import asyncio
import os
import re
import signal
import uuid
from contextlib import AsyncExitStack

import aiohttp
import psycopg
import pytest

from atelier.app import application, check_data_dir, listen, serving
from atelier.cli.serve import serve
from atelier.errors import ConfigurationError
from atelier.service import Submission, relay
from atelier.settings import Settings

POSTGRESQL = os.environ.get(
    "ATELIER_TEST_POSTGRESQL_URL", "postgresql://postgres@127.0.0.1:5432/postgres"
)


@pytest.fixture
def database_url(request, tmp_path):
    """An empty database of the kind that the test is run on."""
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path / 'shared.db'}"
        return
    name = f"atelier_test_{uuid.uuid4().hex[:12]}"
    try:
        server = psycopg.connect(POSTGRESQL, autocommit=True, connect_timeout=3)
    except psycopg.OperationalError as error:
        reason = f"postgresql isn't reachable: {error}"
        if os.environ.get("REQUIRE_SERVICES") == "1":
            pytest.fail(reason)
        pytest.skip(reason)
    with server:
        server.execute(f"CREATE DATABASE {name}")
    yield POSTGRESQL.rpartition("/")[0] + f"/{name}"
    with psycopg.connect(POSTGRESQL, autocommit=True) as server:
        server.execute(f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture
def settings_of(tmp_path, engine):
    def make(name="data", **more):
        return Settings(
            data_dir=tmp_path / name,
            comfyui_urls=engine.url,
            embedded_engine="never",
            grace_seconds=0.2,
            **{"storage_url": str(tmp_path / "storage"), **more},
        )

    return make


@pytest.fixture
async def opened(settings_of):
    """Applications that are closed at the end, the last first."""
    async with AsyncExitStack() as stack:

        async def new(name, *, worker, **more):
            context = application(settings_of(name, **more), worker=worker, embedded=False)
            return await stack.enter_async_context(context)

        yield new


async def heard_of(app, until_type="finished", **subject):
    """The events of a job or user up to the one of ``until_type``."""
    heard = []
    async with (
        asyncio.timeout(15),
        app.services.generations.follow(**subject) as subscription,
    ):
        async for event in subscription:
            heard.append(event)
            if event.type == until_type or (event.ends and "job" in subject):
                break
    return heard


@pytest.mark.parametrize("database_url", ["sqlite", "postgresql"], indirect=True)
async def test_api_hears_what_a_worker_in_another_process_does(
    database_url, opened, graph_of, gates
):
    api = await opened("api", worker=False, database_url=database_url)
    worker = await opened("worker", worker=True, database_url=database_url)
    assert worker.services.generations._bus is not api.services.generations._bus
    gate = gates.new()
    view, _ = await api.services.generations.submit(Submission(graph_of(gate.node), user="anna"))
    id = view.job.id
    listening = asyncio.create_task(heard_of(api, job=id))
    of_user = asyncio.create_task(heard_of(api, user="anna"))
    waiting = asyncio.create_task(api.services.generations.wait(id, 15))
    await gate.reached()
    gate.open()
    heard, heard_by_user = await listening, await of_user
    assert heard[0].type == "snapshot"
    assert heard[-1].data["outputs"][0]["width"] == 32
    assert {event.job for event in heard_by_user} == {id}
    assert (await waiting).job.status == "succeeded"


async def test_job_that_ends_between_two_looks_is_told_all_the_same(
    opened, tmp_path, graph_of, monkeypatch
):
    monkeypatch.setattr(relay, "EVERY_SECONDS", 1.0)
    url = f"sqlite:///{tmp_path / 'shared.db'}"
    api = await opened("api", worker=False, database_url=url)
    await opened("worker", worker=True, database_url=url)
    of_user = asyncio.create_task(heard_of(api, user="anna"))
    await asyncio.sleep(0.05)
    view, _ = await api.services.generations.submit(Submission(graph_of(), user="anna"))
    waited = await api.services.generations.wait(view.job.id, 10)
    assert waited.job.status == "succeeded"
    heard = await of_user
    assert [heard[0].type, heard[-1].type] == ["queued", "finished"]


async def test_failure_and_cancellation_are_heard_too(opened, tmp_path, graph_of, gates, make_node):
    url = f"sqlite:///{tmp_path / 'shared.db'}"
    api = await opened("api", worker=False, database_url=url)
    await opened("worker", worker=True, database_url=url)
    bad, _ = await api.services.generations.submit(
        Submission(graph_of(make_node("TestFail", reason="no paint")))
    )
    heard = await heard_of(api, "failed", job=bad.job.id)
    assert heard[-1].data["error"]["code"] == "WORKFLOW_EXECUTION_ERROR"
    gate = gates.new()
    view, _ = await api.services.generations.submit(Submission(graph_of(gate.node)))
    listening = asyncio.create_task(heard_of(api, "cancelled", job=view.job.id))
    await gate.reached()
    await api.services.generations.cancel(view.job.id)
    assert (await listening)[-1].type == "cancelled"


async def test_two_whole_services_share_one_database(opened, tmp_path, graph_of, gates):
    """Each hears of what the other's worker runs."""
    url = f"sqlite:///{tmp_path / 'shared.db'}"
    services = [
        await opened(name, worker=True, database_url=url, max_concurrent_tasks=1)
        for name in ("one", "two")
    ]
    held = [gates.new(), gates.new()]
    ids = []
    for app, gate in zip(services, held, strict=True):
        view, _ = await app.services.generations.submit(Submission(graph_of(gate.node)))
        ids.append(view.job.id)
    # Whoever listens, and wherever: four listeners, half of them at the other service.
    listening = [asyncio.create_task(heard_of(app, job=id)) for app in services for id in ids]
    await asyncio.sleep(0.1)
    for gate in held:
        gate.open()
    for heard in await asyncio.gather(*listening):
        assert [event.type for event in heard].count("finished") == 1


async def test_worker_without_a_face_takes_up_what_was_accepted_before_it_came(
    opened, tmp_path, graph_of
):
    """It learns what the job needs from the database."""
    url = f"sqlite:///{tmp_path / 'shared.db'}"
    api = await opened("api", worker=False, database_url=url)
    view, _ = await api.services.generations.submit(Submission(graph_of()))
    await opened("worker", worker=True, database_url=url)
    assert (await api.services.generations.wait(view.job.id, 10)).job.status == "succeeded"


async def test_face_is_served_until_it_is_left(opened, tmp_path):
    app = await opened("api", worker=False)
    listener = listen("127.0.0.1", 0)
    base = f"http://127.0.0.1:{listener.getsockname()[1]}"
    async with aiohttp.ClientSession() as session:
        async with serving(app, listener), session.get(f"{base}/health") as answer:
            assert answer.status == 200
        with pytest.raises(aiohttp.ClientConnectorError):
            await session.get(f"{base}/health")


@pytest.mark.parametrize("role", ["api", "worker"])
async def test_part_runs_beside_the_other_until_sigterm(
    role, opened, tmp_path, engine, graph_of, monkeypatch, capsys, eventually
):
    shared = {
        "database_url": f"sqlite:///{tmp_path / 'shared.db'}",
        "storage_url": str(tmp_path / "storage"),
    }
    for name, value in {
        "COMFYUI_URLS": engine.url,
        "DATABASE_URL": shared["database_url"],
        "STORAGE_URL": shared["storage_url"],
        "ATELIER_DATA_DIR": str(tmp_path / "data"),
        "HOST": "127.0.0.1",
        "PORT": "0",
    }.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr("atelier.cli.serve.configure_logging", lambda *_, **__: None)
    other = await opened("other", worker=role == "api", database_url=shared["database_url"])
    part = asyncio.create_task(serve(role))
    said = []

    def ready():
        assert not part.done()
        said.append(capsys.readouterr().err)
        return {"api": "API is up", "worker": "atelier worker:"}[role] in "".join(said)

    await eventually(ready, "it did not start")
    if role == "worker":
        view, _ = await other.services.generations.submit(Submission(graph_of()))
        assert (await other.services.generations.wait(view.job.id, 10)).job.status == "succeeded"
    else:
        base = re.search(r"API is up: (\S+)", "".join(said))[1]
        body, headers = {"workflow": graph_of()}, {"Prefer": "wait=10"}
        async with (
            aiohttp.ClientSession(base) as session,
            session.post("/v1/jobs", json=body, headers=headers) as answer,
        ):
            assert (await answer.json())["status"] == "succeeded"
    signal.raise_signal(signal.SIGTERM)
    async with asyncio.timeout(5):
        await part


async def test_port_in_use_is_a_sentence():
    with listen("127.0.0.1", 0) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(ConfigurationError) as caught:
            listen("127.0.0.1", port)
    assert str(port) in caught.value.message
    assert "PORT" in caught.value.hint


@pytest.mark.parametrize("name", ["file", "file/below"])
def test_data_folder_that_is_a_file_is_a_sentence(tmp_path, name):
    (tmp_path / "file").write_text("x")
    with pytest.raises(ConfigurationError) as caught:
        check_data_dir(tmp_path / name)
    assert str(tmp_path / name) in caught.value.message
    assert "ATELIER_DATA_DIR" in caught.value.hint


async def test_unreachable_comfyui_does_not_keep_it_from_starting(tmp_path):
    with listen("127.0.0.1", 0) as closed:
        port = closed.getsockname()[1]
    settings = Settings(
        data_dir=tmp_path, comfyui_urls=f"http://127.0.0.1:{port}", embedded_engine="never"
    )
    async with asyncio.timeout(5), application(settings, worker=True, embedded=True) as app:
        health = await app.services.overview.health()
        assert (health.status, app.embedded) == ("degraded", False)


async def test_worker_finds_its_name_again_whoever_starts_first(settings_of):
    """As after a power cut: an API process and a worker of one data folder, in any order."""
    names = []
    for order in ((False, True), (True, False)):
        async with AsyncExitStack() as stack:
            for worker in order:
                context = application(settings_of(), worker=worker, embedded=False)
                app = await stack.enter_async_context(context)
                if worker:
                    shown = await app.services.presence.processes()
                    names.append([one.id for one in shown if one.role == "worker"])
    assert names[0] == names[1] != []


async def test_redis_that_is_away_is_told_and_holds_nothing_up(settings_of):
    with listen("127.0.0.1", 0) as closed_later:
        port = closed_later.getsockname()[1]
    settings = settings_of(redis_address=f"redis://127.0.0.1:{port}")
    async with application(settings, worker=False, embedded=False) as app:
        health = await app.services.overview.health()
    assert health.redis.startswith("Redis can't be reached")
    assert health.ok


async def test_store_that_is_away_does_not_stop_the_start(opened, unused_tcp_port):
    url = f"s3://pictures?endpoint=http://127.0.0.1:{unused_tcp_port}&region=r"
    more = {"storage_url": url, "storage_access_key": "k", "storage_secret_key": "s"}
    app = await opened("away", worker=True, **more)
    assert app.pool.up()
    assert "failed" in (await app.services.overview.health()).storage
