"""The instances of the pool: shown, added, changed, drained and removed."""

import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

from sqlalchemy.ext.asyncio import AsyncConnection

from atelier.comfy.object_info import LOADERS
from atelier.database import Database
from atelier.errors import Conflict, InvalidRequest, NotFound
from atelier.pool.instance import Instance
from atelier.pool.places import NAME, checked_url, place_of
from atelier.pool.pool import Pool
from atelier.pool.roster import Entry, Roster, Wanted
from atelier.service.capabilities import Capabilities
from atelier.service.views import InstanceView


class InstanceUnknown(NotFound):
    """There is no instance of that id."""

    code = "INSTANCE_UNKNOWN"


class InstanceExists(Conflict):
    """There is an instance of that id, or at that address, already."""

    code = "INSTANCE_EXISTS"
    default_hint = "PATCH /v1/instances/{id} changes it."


class InstanceNameInvalid(InvalidRequest):
    code = "INSTANCE_NAME_INVALID"
    default_hint = "Use up to 100 letters, digits and . _ - : @ / in a name; begin with a letter."


class Instances:
    """``host`` is this machine; ``shared``: others may use the same database.

    ``look`` brings the pool up to date with the database.
    """

    def __init__(
        self,
        *,
        database: Database,
        pool: Pool,
        host: str,
        shared: bool,
        look: Callable[[], Awaitable[None]],
        now_ms: Callable[[], int],
    ) -> None:
        self._database = database
        self._roster = Roster(database.dialect)
        self._pool = pool
        self._host = host
        self._shared = shared
        self._look = look
        self._now_ms = now_ms

    def get(self, id: str) -> InstanceView:
        """Raises InstanceUnknown, which lists those that there are."""
        instance = self._pool.get(id)
        if instance is None:
            ids = sorted(one.id for one in self._pool.instances)
            raise InstanceUnknown(
                f"There is no instance {id!r}.",
                hint=f"There are: {', '.join(ids[:20])}." if ids else "There is none.",
                allowed=ids[:50],
            )
        return instance_view(instance, self._now_ms())

    async def add(
        self, url: str, *, name: str | None = None, weight: float = 1.0, tags: Sequence[str] = ()
    ) -> InstanceView:
        """Let workers serve the instance at ``url`` from now on.

        Raises InstanceUrlInvalid, InstanceNameInvalid, InstanceExists.
        """
        checked = checked_url(url)
        id, host = place_of(checked, host=self._host, shared=self._shared)
        if name is not None and not re.match(NAME, name):
            raise InstanceNameInvalid(f"{name!r} can't name an instance.", field="name")
        id = name or id
        await self._look()
        there = next(
            (one for one in self._pool.instances if one.id == id or one.url == checked), None
        )
        entry = Entry(id, checked, origin="api", host=host, weight=weight, tags=tuple(tags))
        if there is not None or not await self._database.run(
            lambda conn: self._roster.add(conn, entry)
        ):
            raise InstanceExists(
                f"The instance {there.id if there is not None else id} is there already.",
                id=there.id if there is not None else id,
            )
        await self._look()
        return self.get(id)

    async def change(
        self, id: str, *, weight: float | None = None, tags: Sequence[str] | None = None
    ) -> InstanceView:
        """Set what is given. Raises InstanceUnknown."""
        values: dict[str, Any] = {}
        if weight is not None:
            values["weight"] = weight
        if tags is not None:
            values["tags"] = list(tags)
        await self._set(id, **values)
        return self.get(id)

    async def drain(self, id: str) -> InstanceView:
        """Give it no more jobs; those that it has end there. Raises InstanceUnknown."""
        return await self._want(id, "draining")

    async def resume(self, id: str) -> InstanceView:
        """The opposite of ``drain``. Raises InstanceUnknown."""
        return await self._want(id, "active")

    async def remove(self, id: str) -> None:
        """As ``drain``, and forget it then. Raises InstanceUnknown.

        One that is configured stays away until it is added again.
        """
        await self._set(id, wanted="removed")
        await self._database.run(self._roster.forget)
        await self._look()

    async def _want(self, id: str, wanted: Wanted) -> InstanceView:
        await self._set(id, wanted=wanted)
        return self.get(id)

    async def _set(self, id: str, **values: Any) -> None:
        async def work(conn: AsyncConnection) -> bool:
            if await self._roster.get(conn, id) is None:
                return False
            return not values or await self._roster.change(conn, id, **values)

        is_there = await self._database.run(work)
        await self._look()
        if not is_there:
            self.get(id)  # raises


def instance_view(instance: Instance, now_ms: int) -> InstanceView:
    info = instance.object_info
    system = instance.system.get("system") or {}
    told = instance.report(now_ms)
    folders = {} if info is None else {name: len(info.model_files(name)) for name in LOADERS}
    busy_until_ms = instance.busy_until_ms(now_ms)
    return InstanceView(
        id=instance.id,
        url=instance.shown_url,
        state=instance.state,
        embedded=instance.embedded,
        version=system.get("comfyui_version"),
        queue_remaining=told.queue_remaining,
        running_jobs=tuple(instance.running),
        devices=instance.devices,
        models_count=folders.get("checkpoints", 0) + folders.get("diffusion_models", 0),
        nodes_count=len(info.classes) if info else 0,
        last_error=instance.last_error,
        latency_ms=round(instance.latency_ms, 1) if instance.latency_ms is not None else None,
        connections=told.connections,
        messages=told.messages,
        jobs_served=instance.served,
        origin=instance.origin,
        host=instance.host,
        wanted=instance.wanted,
        weight=instance.weight,
        tags=instance.tags,
        worker=instance.driver,
        circuit=instance.circuit,
        claimed_jobs=told.claimed,
        foreign_prompts=told.foreign,
        busy_until_ms=busy_until_ms if busy_until_ms > now_ms else None,
        warm_models=told.warm,
        switch_ms=told.switch_ms,
        run_ms=told.speeds,
        vram_total_bytes=_sum(instance.devices, "vram_total"),
        vram_free_bytes=_sum(instance.devices, "vram_free"),
        models={name: count for name, count in folders.items() if count},
        capabilities=None if info is None else info.revision,
    )


def waiting_because(
    instances: Sequence[Instance], capabilities: Capabilities, requirement: str
) -> str | None:
    """Why a job with that ``requirement`` waits for other things than its turn; None: it doesn't.

    The instances that could run it are named with what keeps each from it.
    """
    known = capabilities.known(requirement)
    takers = [one for one in instances if known and capabilities.can_run(one, requirement)]
    if any(one.state == "up" and one.circuit != "open" for one in takers):
        return None
    if takers and any(one.up for one in instances):
        reasons = "; ".join(f"{one.id}: {_away_because(one)}" for one in takers)
        return f"Waiting for an instance that can run it ({reasons})."
    up = [one for one in instances if one.up]
    if not up:
        reasons = "; ".join(f"{one.id}: {_away_because(one)}" for one in instances)
        return f"Waiting for a ComfyUI instance: none can be reached ({reasons})."
    if known is None:
        return None
    lacking = ", ".join(capabilities.missing(up[0], known.alternatives[0]))
    return f"Waiting for an instance that can run it; those that are up lack: {lacking}."


def _away_because(instance: Instance) -> str:
    if instance.state == "draining":
        return "it is draining"
    if instance.state == "up" and instance.circuit == "open":
        return "it failed several times and is left alone for a while"
    return instance.last_error or "not reached yet"


def _sum(devices: Sequence[Mapping[str, Any]], name: str) -> int | None:
    sizes = [one[name] for one in devices if isinstance(one.get(name), int)]
    return sum(sizes) if sizes else None
