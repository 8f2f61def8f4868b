"""All instances that this process knows of, and what they can run together."""

import asyncio
import zlib
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Self

from atelier.comfy.object_info import ObjectInfo
from atelier.pool.instance import Instance
from atelier.pool.roster import Origin


class Pool:
    """``async with`` drives the instances that were added, all at once.

    Where several processes share a pool, ``Membership`` says instead which are driven here, and
    keeps the others as their drivers report them. Listeners are told when one changes.
    """

    def __init__(self) -> None:
        self._instances: dict[str, Instance] = {}
        self._listeners: list[Callable[[], None]] = []
        self._changed = asyncio.Event()

    def add(
        self,
        url: str,
        client_id: str,
        *,
        id: str | None = None,
        embedded: bool = False,
        origin: Origin | None = None,
        host: str | None = None,
        explain: Callable[[], str | None] = lambda: None,
    ) -> Instance:
        """Register an instance, which is not driven yet. ``host``: only reached from there.

        ``explain`` tells why its process doesn't answer, where somebody here keeps it.
        """
        instance = Instance(
            url,
            client_id,
            id=id,
            embedded=embedded,
            origin=origin or ("embedded" if embedded else "config"),
            host=host,
            explain=explain,
            on_change=self.tell_listeners,
        )
        self._instances[instance.id] = instance
        return instance

    def on_change(self, listener: Callable[[], None]) -> None:
        self._listeners.append(listener)

    async def __aenter__(self) -> Self:
        for instance in self._instances.values():
            await instance.__aenter__()
        self.tell_listeners()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        for instance in self._instances.values():
            await instance.__aexit__(kind, error, traceback)

    async def drive(self, instance: Instance) -> None:
        """Serve ``instance`` from here on."""
        await instance.__aenter__()
        self.tell_listeners()

    async def let_go(self, instance: Instance) -> None:
        """Close the connection to ``instance``; who runs jobs there loses them."""
        await instance.__aexit__(None, None, None)
        self.tell_listeners()

    async def remove(self, id: str) -> None:
        """Forget an instance."""
        instance = self._instances.pop(id, None)
        if instance is not None:
            await instance.__aexit__(None, None, None)
            self.tell_listeners()

    @property
    def instances(self) -> Sequence[Instance]:
        return tuple(self._instances.values())

    def get(self, id: str) -> Instance | None:
        return self._instances.get(id)

    def driven(self) -> list[Instance]:
        """Those that this process serves, up or not."""
        return [instance for instance in self._instances.values() if instance.driven]

    def up(self) -> list[Instance]:
        """Those that answer their drivers, wherever these are; some may be draining."""
        return [instance for instance in self._instances.values() if instance.up]

    def all_up(self) -> bool:
        return all(instance.up for instance in self._instances.values())

    def known(self) -> list[Instance]:
        """Those of which we know what they can run, up or not."""
        return [one for one in self._instances.values() if one.object_info is not None]

    def all_known(self) -> bool:
        """Whether nothing can be somewhere that we don't know of."""
        return bool(self._instances) and len(self.known()) == len(self._instances)

    def knowing(self, classes: frozenset[str]) -> ObjectInfo | None:
        """What an instance tells of its nodes: of those up, the one that has most of ``classes``.

        Of the others where none is up; None while nothing is known of any.
        """
        told = [one.object_info for one in self.up() or self.known()]
        infos = [info for info in told if info is not None]
        return max(infos, key=lambda info: len(classes & info.classes), default=None)

    def model_files(self, folder: str, *, also_down: bool = False) -> dict[str, list[str]]:
        """Files in a folder below ``models/``, each with the instances that are up and have it.

        ``also_down``: with those that had it when they were seen last, too.
        """
        found: dict[str, list[str]] = {}
        for instance in self.known() if also_down else self.up():
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

    def tell_listeners(self) -> None:
        self._changed.set()
        for listener in self._listeners:
            listener()


def client_id(owner: str, url: str, *, base: str = "atelier") -> str:
    """A WebSocket client id that is the same after a restart of the same owner.

    ComfyUI sends what happens to a prompt to the client id that submitted it.
    """
    return f"{base}-{owner}-{zlib.crc32(url.encode()):08x}"
