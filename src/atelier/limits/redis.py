"""Counting for all processes together, in Redis; without it each process counts for itself."""

import asyncio
import time
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

import structlog

from atelier.events.redis import RedisUnreachable
from atelier.events.redis.server import open_redis
from atelier.limits.limiter import ALL, Limiter, Policy, Verdict, judge

if TYPE_CHECKING:
    from redis.asyncio import Redis

log = structlog.get_logger(__name__)

TIMEOUT_SECONDS = 0.25  # a submission waits no longer for a count
AWAY_SECONDS = 2.0  # so long nobody asks again
CONNECTIONS = 8

# KEYS: a state for each policy; ARGV: cost, then quota and window in ms of each. Either all states
# move or none. Answers whether they did, and how far ahead of now each was before, in ms. The time
# is the server's, so that the processes' clocks don't matter.
SCRIPT = """
local time = redis.call('TIME')
local now = time[1] * 1000 + time[2] / 1000
local before, after, allowed = {}, {}, 1
for i, key in ipairs(KEYS) do
  local quota, window = tonumber(ARGV[2 * i]), tonumber(ARGV[2 * i + 1])
  local whole_at = tonumber(redis.call('GET', key) or '0') or 0
  before[i] = math.max(whole_at - now, 0)
  after[i] = before[i] + window / quota * math.min(tonumber(ARGV[1]), quota)
  if after[i] - window > 0.000001 then allowed = 0 end
end
local answer = {allowed}
for i, key in ipairs(KEYS) do
  if allowed == 1 then
    redis.call('SET', key, string.format('%.3f', now + after[i]), 'PX', math.ceil(after[i]))
  end
  answer[i + 1] = string.format('%.3f', before[i])
end
return answer
"""


class RedisLimiter:
    """``without`` counts while Redis is away; ``installation`` tells apart who shares the Redis."""

    def __init__(
        self,
        url: str,
        policies: Sequence[Policy],
        of_all: Sequence[Policy],
        *,
        without: Limiter,
        installation: str,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._url = url
        self._policies = tuple((policy, False) for policy in policies)
        self._policies += tuple((policy, True) for policy in of_all)
        self._without = without
        self._prefix = f"atelier:{installation}:limit"
        self._clock = clock
        self._away_until = float("-inf")
        self._client: Redis | None = None
        self._script: Any = None
        self._places = asyncio.Semaphore(CONNECTIONS)

    async def __aenter__(self) -> Self:
        try:
            self._client = open_redis(self._url, timeout_seconds=TIMEOUT_SECONDS)
        except RedisUnreachable as error:
            log.warning("each process counts for itself", reason=error.message)
        else:
            self._script = self._client.register_script(SCRIPT)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._client is not None:
            await self._client.aclose()

    async def take(self, caller: str, cost: int = 1) -> Verdict:
        if self._client is None or self._clock() < self._away_until:
            return await self._without.take(caller, cost)
        from redis.exceptions import RedisError

        policies = [one for one, _ in self._policies]
        keys = [
            f"{self._prefix}:{one.name}:{ALL if of_all else caller}"
            for one, of_all in self._policies
        ]
        figures = [figure for one in policies for figure in (one.quota, one.window_ms)]
        try:
            async with self._places:
                allowed, *before = await self._script(keys=keys, args=[cost, *figures])
        except (RedisError, OSError, TimeoutError) as error:
            self._away_until = self._clock() + AWAY_SECONDS
            log.warning("Redis is away; each process counts for itself", reason=str(error))
            return await self._without.take(caller, cost)
        names = (one.name for one in policies)
        ahead = {name: float(text) for name, text in zip(names, before, strict=True)}
        return judge(policies, ahead, cost, allowed=bool(allowed))
