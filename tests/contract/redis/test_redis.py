"""A real Redis, where one is reachable: ATELIER_TEST_REDIS_URL names another."""

import asyncio
import os

import pytest

from atelier.events.redis import RedisUnreachable, redis_version

URL = os.environ.get("ATELIER_TEST_REDIS_URL", "redis://127.0.0.1:6379")


@pytest.fixture
async def redis_url():
    try:
        await redis_version(URL)
    except RedisUnreachable as error:
        if os.environ.get("REQUIRE_SERVICES") == "1":
            pytest.fail(f"redis: {error.message}")
        pytest.skip(f"redis is not reachable: {error.message}")
    return URL


async def test_server_tells_its_release(redis_url):
    assert (await redis_version(redis_url)).count(".") >= 1


async def test_nobody_listening_is_a_sentence(port):
    with pytest.raises(RedisUnreachable, match="can't be reached") as caught:
        await redis_version(f"redis://127.0.0.1:{port}")
    assert "REDIS_URL" in caught.value.hint


async def test_wrong_password_is_a_sentence(redis_url):
    with pytest.raises(RedisUnreachable, match=r"password|reached"):
        await redis_version(redis_url.replace("redis://", "redis://nobody:wrong@"))


async def test_address_that_is_none_is_a_sentence():
    with pytest.raises(RedisUnreachable, match="REDIS_URL can't be used"):
        await redis_version("http://127.0.0.1")


async def test_silent_server_is_given_up(monkeypatch):
    monkeypatch.setattr("atelier.events.redis.server.TIMEOUT_SECONDS", 0.05)
    done = asyncio.Event()

    async def say_nothing(reader, writer):
        await done.wait()
        writer.close()

    async with await asyncio.start_server(say_nothing, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        with pytest.raises(RedisUnreachable):
            await redis_version(f"redis://127.0.0.1:{port}")
        done.set()


@pytest.fixture
def port():
    import socket

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]
