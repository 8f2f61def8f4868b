"""Counting in memory, in Redis, and in memory because Redis is away: the same answers."""

import asyncio
import os
import time
import uuid

import pytest

from atelier.events.redis import RedisUnreachable, redis_version
from atelier.limits import Policy
from atelier.limits.memory import MemoryLimiter
from atelier.limits.redis import RedisLimiter

URL = os.environ.get("ATELIER_TEST_REDIS_URL", "redis://127.0.0.1:6379")
KINDS = ["memory", "redis", "redis away"]


async def reachable_url():
    try:
        await redis_version(URL)
    except RedisUnreachable as error:
        if os.environ.get("REQUIRE_SERVICES") == "1":
            pytest.fail(f"redis: {error.message}")
        pytest.skip(f"redis is not reachable: {error.message}")
    return URL


@pytest.fixture(params=KINDS)
async def new_limiter(request, unused_tcp_port):
    """``new_limiter(policies, of_all)``: each call is another process."""
    open_ones = []
    installation = uuid.uuid4().hex

    async def new(policies, of_all=()):
        here = MemoryLimiter(policies, of_all)
        if request.param == "memory":
            return here
        url = f"redis://127.0.0.1:{unused_tcp_port}"
        if request.param == "redis":
            url = await reachable_url()
        limiter = RedisLimiter(url, policies, of_all, without=here, installation=installation)
        open_ones.append(await limiter.__aenter__())
        return limiter

    yield new
    for limiter in open_ones:
        await limiter.__aexit__(None, None, None)


async def test_quota_and_not_one_more(new_limiter):
    limiter = await new_limiter([Policy("user", 5)])
    verdicts = [await limiter.take("ada") for _ in range(5)]
    assert all(verdict.allowed for verdict in verdicts)
    assert [verdict.states[0].remaining for verdict in verdicts] == [4, 3, 2, 1, 0]
    refused = await limiter.take("ada")
    assert not refused.allowed
    assert 11 < refused.retry_after_seconds <= 12
    assert refused.states[0].remaining == 0
    assert (await limiter.take("bob")).allowed


async def test_it_comes_back_with_time(new_limiter):
    limiter = await new_limiter([Policy("user", 10, window_ms=300)])
    for _ in range(10):
        await limiter.take("ada")
    refused = await limiter.take("ada")
    if not refused.allowed:  # a slow machine may have waited long enough by now
        await asyncio.sleep(refused.retry_after_seconds + 0.005)
        assert (await limiter.take("ada")).allowed


async def test_refusals_cost_nothing(new_limiter):
    limiter = await new_limiter([Policy("user", 5)])
    await limiter.take("ada", 5)
    waits = [(await limiter.take("ada")).retry_after_seconds for _ in range(20)]
    assert max(waits) <= 12


async def test_quota_of_all_counts_everybody(new_limiter):
    limiter = await new_limiter([Policy("user", 5)], [Policy("all", 7)])
    assert (await limiter.take("ada", 5)).allowed
    assert (await limiter.take("bob", 2)).allowed
    refused = await limiter.take("cy")
    assert not refused.allowed
    assert [(one.policy.name, one.remaining) for one in refused.states] == [("user", 5), ("all", 0)]


async def test_exactly_the_quota_of_many_at_once(new_limiter):
    limiter = await new_limiter([Policy("user", 50)])
    verdicts = await asyncio.gather(*(limiter.take("ada") for _ in range(200)))
    assert 50 <= sum(verdict.allowed for verdict in verdicts) <= 51  # one comes back in 1.2 s


@pytest.mark.parametrize("new_limiter", ["redis"], indirect=True)
async def test_processes_count_together(new_limiter):
    one, other = await new_limiter([Policy("user", 4)]), await new_limiter([Policy("user", 4)])
    for limiter in (one, other, one, other):
        assert (await limiter.take("ada")).allowed
    assert not (await one.take("ada")).allowed
    assert not (await other.take("ada")).allowed


@pytest.mark.parametrize("new_limiter", ["redis"], indirect=True)
async def test_forgotten_script_and_counts_are_no_error(new_limiter):
    from redis.asyncio import Redis

    limiter = await new_limiter([Policy("user", 2)])
    await limiter.take("ada", 2)
    async with Redis.from_url(URL) as redis:
        await redis.script_flush()
        async for key in redis.scan_iter(f"{limiter._prefix}:*"):
            await redis.delete(key)
    assert (await limiter.take("ada", 2)).allowed
    assert not (await limiter.take("ada")).allowed


async def test_nobody_waits_for_a_redis_that_is_silent():
    async def say_nothing(reader, writer):
        await reader.read()
        writer.close()

    async with await asyncio.start_server(say_nothing, "127.0.0.1", 0) as server:
        url = f"redis://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        policies = [Policy("user", 3)]
        here = MemoryLimiter(policies)
        async with RedisLimiter(url, policies, (), without=here, installation="x") as limiter:
            began = time.monotonic()
            verdicts = [await limiter.take("ada") for _ in range(4)]
            assert time.monotonic() - began < 2
            assert [verdict.allowed for verdict in verdicts] == [True] * 3 + [False]


async def test_memory_is_bounded():
    limiter = MemoryLimiter([Policy("user", 5)], most_callers=100)
    for number in range(1000):
        assert (await limiter.take(f"user {number}")).allowed
    assert len(limiter._whole_at) <= 100
