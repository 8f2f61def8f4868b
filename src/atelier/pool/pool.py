"""All instances of this process, and what they can run together."""

import asyncio
import zlib
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from types import TracebackType
from typing import Self

from atelier.comfy.object_info import ObjectInfo
from atelier.pool.instance import Instance


class Pool:
    """Opens its instances together and tells listeners when one changes."""

    def __init__(self) -> None:
        self._instances: dict[str, Instance] = {}
        self._listeners: list[Callable[[], None]] = []
        self._stack = AsyncExitStack()
        self._changed = asyncio.Event()

    def add(
        self,
        url: str,
        client_id: str,
        *,
        id: str | None = None,
        embedded: bool = False,
        explain: Callable[[], str | None] = lambda: None,
    ) -> Instance:
        """Register an instance before the pool is entered, and return it.

        ``explain`` tells why its process doesn't answer, where somebody here keeps it.
        """
        instance = Instance(
            url,
            client_id,
            id=id,
            embedded=embedded,
            explain=explain,
            on_change=self._tell_listeners,
        )
        self._instances[instance.id] = instance
        return instance

    def on_change(self, listener: Callable[[], None]) -> None:
        self._listeners.append(listener)

    async def __aenter__(self) -> Self:
        await self._stack.__aenter__()
        for instance in self._instances.values():
            await self._stack.enter_async_context(instance)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self._stack.__aexit__(kind, error, traceback)

    @property
    def instances(self) -> Sequence[Instance]:
        return tuple(self._instances.values())

    def get(self, id: str) -> Instance | None:
        return self._instances.get(id)

    def up(self) -> list[Instance]:
        return [instance for instance in self._instances.values() if instance.up]

    def all_up(self) -> bool:
        return all(instance.up for instance in self._instances.values())

    def knowing(self, classes: frozenset[str]) -> ObjectInfo | None:
        """What an instance tells of its nodes: of those up, the one that has most of ``classes``.

        None while none is up.
        """
        told = [one.object_info for one in self.up() if one.object_info is not None]
        return max(told, key=lambda info: len(classes & info.classes), default=None)

    def model_files(self, folder: str) -> dict[str, list[str]]:
        """Files in a folder below ``models/``, each with the instances that are up and have it."""
        found: dict[str, list[str]] = {}
        for instance in self.up():
            for file in instance.object_info.model_files(folder) if instance.object_info else ():
                found.setdefault(file, []).append(instance.id)
        return dict(sorted(found.items(), key=lambda entry: entry[0].casefold()))

    async def wait_until_any_up(self, timeout_seconds: float) -> bool:
        """True as soon as one instance can take work, False at the time-out."""
        try:
            async with asyncio.timeout(timeout_seconds):
                while not self.up():
                    self._changed.clear()
                    await self._changed.wait()
        except TimeoutError:
            return False
        return True

    def _tell_listeners(self) -> None:
        self._changed.set()
        for listener in self._listeners:
            listener()


def client_id(owner: str, url: str, *, base: str = "atelier") -> str:
    """A WebSocket client id that is the same after a restart of the same owner.

    ComfyUI sends what happens to a prompt to the client id that submitted it.
    """
    return f"{base}-{owner}-{zlib.crc32(url.encode()):08x}"
