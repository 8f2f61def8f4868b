"""What every instance says of itself at this moment: its queue, its machine."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, TypeVar

from atelier.comfy.answers import QueueState
from atelier.errors import AtelierError
from atelier.pool.instance import Instance
from atelier.service.views import InstanceQueueView, QueuedPrompt, SystemView

T = TypeVar("T")

_PRIVATE = ("argv",)  # paths, and whatever else stands on somebody's command line


async def instance_queues(
    instances: Sequence[Instance], jobs: Mapping[str, str], *, timeout_seconds: float
) -> tuple[InstanceQueueView, ...]:
    """The queues of ``instances``, all asked at once; ``jobs`` has our jobs by prompt id."""

    async def ask(instance: Instance) -> InstanceQueueView:
        def told(ids: Sequence[str]) -> tuple[QueuedPrompt, ...]:
            return tuple(QueuedPrompt(id, jobs.get(id)) for id in ids)

        async def queue() -> QueueState:
            client = await instance.ask()
            return await client.queue(timeout_seconds=timeout_seconds)

        state, error = await _answer(queue, timeout_seconds)
        running, pending = (told(state.running), told(state.pending)) if state else ((), ())
        url = instance.shown_url
        return InstanceQueueView(instance.id, url, instance.state, running, pending, error)

    return tuple(await asyncio.gather(*(ask(instance) for instance in instances)))


async def instance_systems(
    instances: Sequence[Instance], *, timeout_seconds: float
) -> tuple[SystemView, ...]:
    """What the machines of ``instances`` are and have free, all asked at once."""

    async def ask(instance: Instance) -> SystemView:
        async def system_stats() -> Mapping[str, Any]:
            return await (await instance.ask()).system_stats()

        body, error = await _answer(system_stats, timeout_seconds)
        told: Mapping[str, Any] = body or {}
        return SystemView(
            instance.id,
            instance.shown_url,
            instance.state,
            {key: told["system"][key] for key in told.get("system") or () if key not in _PRIVATE},
            tuple(told.get("devices") or ()),
            error,
        )

    return tuple(await asyncio.gather(*(ask(instance) for instance in instances)))


async def _answer(
    ask: Callable[[], Awaitable[T]], timeout_seconds: float
) -> tuple[T, None] | tuple[None, str]:
    """The answer, or why there is none: one instance that is away must not hide the others."""
    try:
        async with asyncio.timeout(timeout_seconds):
            return await ask(), None
    except TimeoutError:
        return None, f"no answer within {timeout_seconds:g} s"
    except AtelierError as error:
        return None, error.message
