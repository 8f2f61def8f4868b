"""Whether the server is there, and how it is reached."""

import math
import time
from typing import TYPE_CHECKING, Any

from atelier.errors import Unavailable

if TYPE_CHECKING:
    from redis.asyncio import Redis

TIMEOUT_SECONDS = 3.0
OLDEST = 6


class RedisUnreachable(Unavailable):
    """Redis did not answer, or did not let us in. No job depends on it."""

    code = "REDIS_UNREACHABLE"
    default_hint = "Check REDIS_URL (or REDIS_HOST, REDIS_PORT, REDIS_PASSWORD) and the server."


def open_redis(url: str, *, timeout_seconds: float | None = None) -> "Redis":
    """A client that tries each command once, so that its failures are seen.

    ``timeout_seconds`` is for each answer, infinity: however long it takes; default: some.
    Raises RedisUnreachable for an address that can't be one.
    """
    # Here, since most installations have none and shouldn't pay its memory.
    from redis.asyncio import Redis
    from redis.asyncio.retry import Retry
    from redis.backoff import NoBackoff

    seconds = TIMEOUT_SECONDS if timeout_seconds is None else timeout_seconds
    try:
        return Redis.from_url(
            url,
            protocol=2,
            retry=Retry(NoBackoff(), 0),
            socket_connect_timeout=min(seconds, TIMEOUT_SECONDS),
            socket_timeout=None if math.isinf(seconds) else seconds,
        )
    except ValueError as error:
        raise RedisUnreachable(f"REDIS_URL can't be used: {error}.") from error


async def redis_version(url: str) -> str:
    """The release of the server at ``url`` (redis://, rediss://), e.g. ``7.0.15``.

    Raises RedisUnreachable within some seconds, also where the server is too old.
    """
    return (await redis_state(url))[0]


async def redis_state(url: str) -> tuple[str, float]:
    """The server's release and the milliseconds that it takes to answer.

    Raises RedisUnreachable.
    """
    client = open_redis(url)
    from redis.exceptions import AuthenticationError, RedisError

    try:
        answer: dict[str, Any] = await client.info("server")
        started = time.perf_counter()
        await client.ping()
        milliseconds = (time.perf_counter() - started) * 1000
    except AuthenticationError as error:
        raise RedisUnreachable(f"Redis refused the password: {error}.") from error
    except (RedisError, OSError) as error:
        reason = str(error).rstrip(".")
        raise RedisUnreachable(f"Redis can't be reached: {reason}.") from error
    finally:
        await client.aclose()
    version = str(answer.get("redis_version", "unknown"))
    major = version.partition(".")[0]
    if major.isdigit() and int(major) < OLDEST:
        raise RedisUnreachable(
            f"Redis {version} is too old.", hint=f"Redis {OLDEST} or newer is needed."
        )
    return version, milliseconds
