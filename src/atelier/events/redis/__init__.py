"""Redis, where one is configured: it speeds up, and holds nothing that can't be rebuilt."""

from atelier.events.redis.bus import RedisBus
from atelier.events.redis.server import RedisUnreachable, redis_state, redis_version

__all__ = ["RedisBus", "RedisUnreachable", "redis_state", "redis_version"]
