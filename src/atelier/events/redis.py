"""Redis, where one is configured: so far whether it is there. Nothing is kept in it."""

from atelier.errors import Unavailable

TIMEOUT_SECONDS = 3.0


class RedisUnreachable(Unavailable):
    """Redis did not answer, or did not let us in. No job depends on it."""

    code = "REDIS_UNREACHABLE"
    default_hint = "Check REDIS_URL (or REDIS_HOST, REDIS_PORT, REDIS_PASSWORD) and the server."


async def redis_version(url: str) -> str:
    """The release of the server at ``url`` (redis://, rediss://), e.g. ``7.0.15``.

    Raises RedisUnreachable within some seconds.
    """
    # Here, since most installations have none and shouldn't pay its memory.
    from redis.asyncio import Redis
    from redis.exceptions import AuthenticationError, RedisError

    try:
        client = Redis.from_url(
            url, socket_connect_timeout=TIMEOUT_SECONDS, socket_timeout=TIMEOUT_SECONDS
        )
    except ValueError as error:
        raise RedisUnreachable(f"REDIS_URL can't be used: {error}.") from error
    try:
        answer = await client.info("server")
    except AuthenticationError as error:
        raise RedisUnreachable(f"Redis refused the password: {error}.") from error
    except (RedisError, OSError) as error:
        reason = str(error).rstrip(".")
        raise RedisUnreachable(f"Redis can't be reached: {reason}.") from error
    finally:
        await client.aclose()
    return str(answer.get("redis_version", "unknown"))
