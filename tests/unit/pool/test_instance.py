"""One instance as the pool sees it."""

import asyncio

import pytest
import structlog

from atelier.comfy.answers import QueueState
from atelier.errors import InstanceError
from atelier.pool import instance as instance_module
from atelier.pool.instance import Instance, instance_id
from atelier.pool.pool import Pool, client_id


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("http://127.0.0.1:8188", "127.0.0.1:8188"),
        ("https://gpu.example/comfy/", "gpu.example/comfy"),
        # a password in the address is shown to nobody
        ("http://user:secret@gpu:8188", "gpu:8188"),
        ("http://[::1]:8188", "[::1]:8188"),
    ],
)
def test_instance_is_named_by_its_address(url, expected):
    assert instance_id(url) == expected


def test_client_id_is_the_same_after_a_restart_and_no_others():
    url = "http://127.0.0.1:8188"
    assert client_id("worker-1", url) == client_id("worker-1", url)
    assert client_id("worker-1", url) != client_id("worker-2", url)
    assert client_id("worker-1", url) != client_id("worker-1", url + "9")


def test_client_id_begins_as_it_was_configured():
    assert client_id("worker-1", "http://a", base="studio").startswith("studio-worker-1-")


class Info:
    revision = "1"


class Client:
    """A ComfyUI's client whose parts come up when the test says so."""

    def __init__(self, url, client_id, *, observer=None):
        self.connected_event = asyncio.Event()
        self.connections = 0
        self.messages = 0
        self.refusals = 0
        self.queue_remaining = 0
        self.last_error = None
        self.answers = True

    @property
    def connected(self):
        return self.connected_event.is_set()

    def connect(self):
        self.connections += 1
        self.connected_event.set()

    async def __aenter__(self):
        return self

    async def __aexit__(self, *_):
        pass

    async def system_stats(self):
        if not self.answers:
            raise InstanceError("does not answer")
        return {"system": {}}

    async def queue(self):
        return QueueState((), ())

    async def object_info(self):
        return Info()


@pytest.fixture
def changes(monkeypatch):
    monkeypatch.setattr(instance_module, "ComfyClient", Client)
    monkeypatch.setattr(instance_module, "PROBE_SECONDS", 0.05)
    return []


async def soon(condition):
    async with asyncio.timeout(3):
        while not condition():  # noqa: ASYNC110  (plain values change)
            await asyncio.sleep(0.005)


async def test_websocket_that_comes_after_the_probe_is_told(changes):
    """Otherwise whoever waits for the first instance waits in vain."""
    async with Instance("http://a", "c", on_change=lambda: changes.append(1)) as instance:
        await asyncio.sleep(0.02)
        assert not instance.up
        before = len(changes)
        instance.client.connect()
        await soon(lambda: len(changes) > before)
        assert (instance.up, instance.state) == (True, "up")


async def test_going_down_and_up_again_is_told(changes):
    def note():
        changes.append(instance.up)

    instance = Instance("http://a", "c", on_change=note)
    async with instance:
        instance.client.connect()
        await soon(lambda: changes and changes[-1])
        instance.client.answers = False
        instance.suspect()
        await soon(lambda: changes[-1] is False)
        assert instance.last_error == "does not answer"
        instance.client.answers = True
        instance.suspect()
        await soon(lambda: changes[-1] is True)
        assert instance.last_error is None


async def test_lost_websocket_is_told_although_it_answers(changes):
    instance = Instance("http://a", "c", on_change=lambda: changes.append(instance.up))
    async with instance:
        instance.client.connect()
        await soon(lambda: changes and changes[-1])
        instance.client.connected_event.clear()
        assert not instance.up
        await soon(lambda: changes[-1] is False)


async def test_pool_waits_for_the_first_that_is_up(changes):
    pool = Pool()
    for name in ("a", "b"):
        pool.add(f"http://{name}", "c")
    assert not await pool.wait_until_any_up(0.01)
    async with pool:
        waiting = asyncio.create_task(pool.wait_until_any_up(3))
        await asyncio.sleep(0.02)
        assert not waiting.done()
        pool.get("b").client.connect()
        assert await waiting
        assert [one.id for one in pool.up()] == ["b"]
        assert not pool.all_up()


async def test_connection_statistics_are_logged_now_and_then_and_at_the_end(changes, monkeypatch):
    monkeypatch.setattr(instance_module, "STATISTICS_SECONDS", 0.0)
    monkeypatch.setattr(instance_module, "log", structlog.wrap_logger(None, processors=[keep]))
    logged.clear()
    async with Instance("http://a", "c") as instance:
        instance.client.connect()
        instance.client.messages = 7
        instance.served = 2
        await soon(lambda: statistics() and statistics()[-1]["connections"] == 1)
    assert statistics()[-1] == {
        "event": "connection statistics",
        "instance": "a",
        "connections": 1,
        "messages": 7,
        "jobs_served": 2,
        "latency_ms": statistics()[-1]["latency_ms"],
    }


logged = []


def keep(logger, method, entry):
    logged.append(dict(entry))
    raise structlog.DropEvent


def statistics():
    return [entry for entry in logged if entry["event"] == "connection statistics"]
