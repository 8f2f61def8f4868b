"""What goes on between processes: the bus, its hints, and counts that they share."""

import contextlib
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from atelier.database import Database
from atelier.events.bus import Bus
from atelier.events.interest import Interest
from atelier.events.memory import MemoryBus
from atelier.events.postgres import PostgresHints
from atelier.events.redis import RedisBus
from atelier.limits import Limiter, Policy
from atelier.limits.memory import MemoryLimiter
from atelier.limits.redis import RedisLimiter
from atelier.settings import Settings


@asynccontextmanager
async def open_bus(settings: Settings, database: Database, installation: str) -> AsyncIterator[Bus]:
    """The bus of this process, joined with those of others where there is a way.

    Redis carries everything; without one, or while it is away, PostgreSQL carries wakes.
    """
    interest = Interest(clock=time.monotonic)
    here = MemoryBus(interest=interest)
    async with contextlib.AsyncExitStack() as stack:
        if database.dialect == "postgresql":
            hints = PostgresHints(database, here.wake_here)
            here.carry(hints.send)
            await stack.enter_async_context(hints)
        if settings.redis_url is None:
            yield here
            return
        bus = RedisBus(settings.redis_url, here, interest, installation=installation)
        yield await stack.enter_async_context(bus)


@asynccontextmanager
async def open_limiter(settings: Settings, installation: str) -> AsyncIterator[Limiter | None]:
    """Who counts submissions; None where nobody has set a limit."""
    per_user, of_all = settings.requests_per_minute, settings.all_requests_per_minute
    if per_user is None and of_all is None:
        yield None
        return
    policies = [] if per_user is None else [Policy("user", per_user)]
    policies_of_all = [] if of_all is None else [Policy("all", of_all)]
    here = MemoryLimiter(policies, policies_of_all)
    if settings.redis_url is None:
        yield here
        return
    async with RedisLimiter(
        settings.redis_url, policies, policies_of_all, without=here, installation=installation
    ) as limiter:
        yield limiter
