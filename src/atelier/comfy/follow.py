"""All watches on one instance: messages handed to each, and what was missed asked for."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final

from atelier.comfy.answers import History, QueueState
from atelier.comfy.protocol import (
    Executing,
    ExecutionStart,
    Message,
    Preview,
    Progress,
    Status,
)
from atelier.comfy.transport import InstanceUnreachable, Transport
from atelier.comfy.watch import Lost, Watch
from atelier.errors import InstanceError

_TICK_SECONDS: Final = 0.5
_SHORTEST_PAUSE_SECONDS: Final = 0.05
_SILENCE_SECONDS: Final = 5.0
# The messages of a prompt that another client submitted go elsewhere.
_ATTACHED_SILENCE_SECONDS: Final = 1.0
# ComfyUI tells every socket of a new prompt at once; a socket that hears nothing is deaf.
_DEAF_SECONDS: Final = 3.0
_ASK_TIMEOUT_SECONDS: Final = 5.0
_ASK_TIMEOUT_WHILE_DOWN_SECONDS: Final = 2.0


class Follower:
    """Keeps every ``Watch`` of one client going to an end.

    Asks ``/queue`` and then ``/history`` (entries move in that order) for watches that were
    silent, or whose messages may have been missed.
    """

    def __init__(
        self,
        transport: Transport,
        *,
        queue: Callable[..., Awaitable[QueueState]],
        history: Callable[..., Awaitable[History | None]],
        lost_after_seconds: float,
        gone_after_seconds: float,
    ) -> None:
        self._transport = transport
        self._queue = queue
        self._history = history
        self._lost_after_seconds = lost_after_seconds
        self._gone_after_seconds = gone_after_seconds
        self._watches: dict[str, Watch] = {}
        # What previews and progress without a prompt id belong to.
        self._running: str | None = None
        self._node: str | None = None
        self._wake = asyncio.Event()
        self._heard_at = time.monotonic()
        self._deaf_since: float | None = None
        self._is_connected = False
        self._closed: str | None = None
        self.renew_connection: Callable[[], Awaitable[None]] | None = None

    def watch(self, prompt_id: str, *, attach: bool, deaf: bool) -> Watch:
        return Watch(
            prompt_id,
            attached=attach,
            missed=attach or deaf,
            on_enter=self._enter,
            on_exit=self._leave,
        )

    def submitting(self, prompt_id: str, graph: Mapping[str, Any]) -> float:
        """Note that ``graph`` is about to be sent, and return when."""
        watch = self._watches.get(prompt_id)
        if watch is not None:
            watch.uses(graph)
            watch.missed = watch.missed or not self._is_connected
        return time.monotonic()

    def submitted(self, prompt_id: str, known_as: str, sent_at: float) -> None:
        """Note that the instance has taken the prompt; an old one gives it its own id."""
        if self._heard_at < sent_at and self._deaf_since is None:
            self._deaf_since = time.monotonic()
        watch = self._watches.get(prompt_id)
        if watch is None:
            return
        watch.submitted = True
        watch.heard_at = time.monotonic()
        if known_as != prompt_id:
            self._watches[known_as] = self._watches.pop(prompt_id)
            watch.prompt_id = known_as
            watch.drop()
            self._wake.set()

    def receive(self, message: Message) -> None:
        """Hand a message to the watch that it is about."""
        self._heard_at = time.monotonic()
        self._deaf_since = None
        match message:
            case Status():
                # Some prompt began or ended: maybe one whose messages we don't get.
                if any(watch.attached for watch in self._watches.values()):
                    self._want_attached()
                return
            case ExecutionStart(prompt_id=prompt_id):
                self._running, self._node = prompt_id, None
            case Executing(prompt_id=str(prompt_id), node=node):
                self._running, self._node = prompt_id, node
            case Executing(prompt_id=None, node=node):
                self._node = node
                message = Executing(self._running, node, message.display_node)
            case Preview(prompt_id=None):
                message = Preview(message.image, message.media_type, self._running, self._node)
            case Progress(prompt_id=None):
                message = Progress(self._running, message.node, message.value, message.max)
        about = getattr(message, "prompt_id", None)
        if about is not None:
            self.hear(about, message)

    def hear(self, prompt_id: str, message: Message) -> None:
        watch = self._watches.get(prompt_id)
        if watch is not None:
            watch.hear(message)
            if watch.wants_history:
                self._wake.set()

    def connected(self) -> None:
        self._is_connected = True
        self._deaf_since = None
        self._wake.set()

    def dropped(self) -> None:
        self._is_connected = False
        for watch in self._watches.values():
            watch.drop()
        self._wake.set()

    def close(self, reason: str) -> None:
        """End every watch, and those that are yet to come."""
        self._closed = reason
        for watch in self._watches.values():
            watch.end(Lost(watch.prompt_id, reason))

    async def run(self) -> None:
        """Look after the watches until cancelled."""
        try:
            while True:
                try:
                    async with asyncio.timeout(_TICK_SECONDS):
                        await self._wake.wait()
                except TimeoutError:
                    pass
                self._wake.clear()
                await self._heal_deafness()
                await self._ask()
                # Bursts of messages ask once.
                await asyncio.sleep(_SHORTEST_PAUSE_SECONDS)
        finally:
            self.close("Nobody follows the instance any more.")

    async def _heal_deafness(self) -> None:
        # A server that notices late that an older socket of the same client id is gone
        # forgets the newer one with it; the submission was answered, but nothing is heard.
        deaf_since = self._deaf_since
        if deaf_since is None or time.monotonic() - deaf_since < _DEAF_SECONDS:
            return
        self._deaf_since = None
        if self._is_connected and self.renew_connection is not None:
            await self.renew_connection()

    async def _ask(self) -> None:
        now = time.monotonic()
        for watch in self._watches.values():
            limit = _ATTACHED_SILENCE_SECONDS if watch.attached else _SILENCE_SECONDS
            if not self._is_connected:
                limit = _ATTACHED_SILENCE_SECONDS
            if now - watch.heard_at > limit:
                watch.wants_history = True
        wanting = [w for w in self._watches.values() if w.wants_history and w.ending is None]
        if not wanting:
            return
        try:
            await self._ask_for(wanting)
        except InstanceUnreachable as error:
            self._give_up(error)
        except InstanceError as error:
            self._transport.last_error = error.message

    async def _ask_for(self, watches: list[Watch]) -> None:
        timeout = _ASK_TIMEOUT_SECONDS if self._is_connected else _ASK_TIMEOUT_WHILE_DOWN_SECONDS
        queue = await self._queue(timeout_seconds=timeout)
        missing: list[Watch] = []
        for watch in watches:
            if queue.place(watch.prompt_id) is None:
                missing.append(watch)
            else:
                self._found(watch)
        absent: list[Watch] = []
        for watch in missing:
            history = await self._history(watch.prompt_id, timeout_seconds=timeout)
            if history is not None:
                watch.conclude(history)
            elif watch.submitted:
                absent.append(watch)
            else:
                # Its submission may be under way.
                watch.wants_history = False
                watch.heard_at = time.monotonic()
        if absent:
            # It may have been submitted, and even have run, in between.
            queue = await self._queue(timeout_seconds=timeout)
            for watch in absent:
                history = await self._history(watch.prompt_id, timeout_seconds=timeout)
                if history is not None:
                    watch.conclude(history)
                elif queue.place(watch.prompt_id) is None:
                    watch.end(Lost(watch.prompt_id, "The instance no longer knows the prompt."))
                else:
                    self._found(watch)

    def _found(self, watch: Watch) -> None:
        watch.submitted = True
        watch.wants_history = False
        watch.heard_at = time.monotonic()

    def _give_up(self, error: InstanceUnreachable) -> None:
        now = time.monotonic()
        refused_since = self._transport.refused_since
        if refused_since is not None and now - refused_since > self._gone_after_seconds:
            reason = "No process listens at the instance's address any more."
        elif now - self._transport.last_contact > self._lost_after_seconds:
            reason = error.message
        else:
            return
        for watch in self._watches.values():
            if watch.submitted:
                watch.end(Lost(watch.prompt_id, reason))

    def _want_attached(self) -> None:
        for watch in self._watches.values():
            if watch.attached:
                watch.wants_history = True
        self._wake.set()

    def _enter(self, watch: Watch) -> None:
        self._watches[watch.prompt_id] = watch
        if self._closed is not None:
            watch.end(Lost(watch.prompt_id, self._closed))
        elif watch.attached:
            self._wake.set()

    def _leave(self, watch: Watch) -> None:
        if self._watches.get(watch.prompt_id) is watch:
            del self._watches[watch.prompt_id]
