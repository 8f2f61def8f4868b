"""Following one prompt until it has ended."""

import asyncio
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Final, Self

from atelier.comfy.answers import History
from atelier.comfy.protocol import (
    Executed,
    Executing,
    ExecutionError,
    ExecutionInterrupted,
    ExecutionSuccess,
    Message,
    Preview,
    Progress,
    ProgressState,
)

# Nodes whose pictures travel over the socket and are written nowhere.
WEBSOCKET_OUTPUTS: Final = frozenset({"SaveImageWebsocket", "ETN_SendImageWebSocket"})

# A reader who falls this far behind is spared progress that is out of date.
_BACKLOG: Final = 64


@dataclass(frozen=True, slots=True)
class Finished:
    """The prompt succeeded.

    ``history_outputs`` by node id, cached nodes included. ``websocket_images`` are what the nodes
    in WEBSOCKET_OUTPUTS sent, in order; ``websocket_images_lost`` says that some may have been
    sent while nobody listened, so that only running again brings them.
    """

    prompt_id: str
    history_outputs: Mapping[str, Mapping[str, Any]]
    websocket_images: tuple[tuple[str, Preview], ...] = ()
    websocket_images_lost: bool = False


@dataclass(frozen=True, slots=True)
class Lost:
    """The instance knows nothing of the prompt, or can't be asked any more: run it again."""

    prompt_id: str
    reason: str


Ending = Finished | ExecutionError | ExecutionInterrupted | Lost
WatchEvent = Message | Finished | Lost


class Watch:
    """An async iterator over one prompt's messages that ends after an ``Ending``.

    ``ending`` is that last event once it is known.
    """

    def __init__(
        self,
        prompt_id: str,
        *,
        attached: bool,
        missed: bool,
        on_enter: Callable[["Watch"], None],
        on_exit: Callable[["Watch"], None],
    ) -> None:
        self.prompt_id = prompt_id
        # Known to have reached the instance, so that its absence there means something.
        self.submitted = attached
        # Submitted by another client, whose socket gets the messages.
        self.attached = attached
        # Some message may have passed unheard: what is not collected stands in the history.
        self.missed = missed
        self.wants_history = attached
        self.heard_at = time.monotonic()
        self.ending: Ending | None = None
        self.websocket_nodes: frozenset[str] = frozenset()
        self._outputs: dict[str, Mapping[str, Any]] = {}
        self._images: list[tuple[str, Preview]] = []
        self._events: deque[WatchEvent] = deque()
        self._ready = asyncio.Event()
        self._on_enter = on_enter
        self._on_exit = on_exit

    async def __aenter__(self) -> Self:
        self._on_enter(self)
        return self

    async def __aexit__(
        self,
        error_type: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._on_exit(self)

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> WatchEvent:
        while not self._events:
            if self.ending is not None:
                raise StopAsyncIteration
            self._ready.clear()
            await self._ready.wait()
        return self._events.popleft()

    def uses(self, graph: Mapping[str, Any]) -> None:
        """Note which nodes of ``graph`` deliver over the socket."""
        self.websocket_nodes = frozenset(
            node_id
            for node_id, node in graph.items()
            if isinstance(node, Mapping) and node.get("class_type") in WEBSOCKET_OUTPUTS
        )

    def hear(self, message: Message) -> None:
        """Take a message about this prompt."""
        if self.ending is not None:
            return
        self.submitted = True
        self.heard_at = time.monotonic()
        match message:
            case ExecutionError() | ExecutionInterrupted():
                self.end(message)
                return
            case Executed(node=node, output=output) if output:
                self._outputs[node] = output
            case Preview(node=node, display_node=display_node):
                for name in (node, display_node):
                    if name in self.websocket_nodes:
                        self._images.append((str(name), message))
                        break
        self._push(message)
        match message:
            case ExecutionSuccess():
                if self.missed:
                    self.wants_history = True
                else:
                    self.end(self._finished(self._outputs))
            case Executing(node=None):
                # Without a success, error or interrupt before it, that message was missed.
                self.missed = self.wants_history = True

    def drop(self) -> None:
        """Note that the socket was lost."""
        self.missed = True
        self.wants_history = True

    def conclude(self, history: History) -> None:
        """End as the history says."""
        if self.attached:
            self.uses(history.graph)
        if history.interrupted is not None:
            self.end(history.interrupted)
        elif history.error is not None:
            self.end(history.error)
        else:
            self.end(self._finished(history.outputs))

    def end(self, ending: Ending) -> None:
        """Make ``ending`` the last event."""
        if self.ending is None:
            self.ending = ending
            self._push(ending)

    def _finished(self, outputs: Mapping[str, Mapping[str, Any]]) -> Finished:
        lost = self.missed and bool(self.websocket_nodes)
        return Finished(self.prompt_id, dict(outputs), tuple(self._images), lost)

    def _push(self, event: WatchEvent) -> None:
        if len(self._events) >= _BACKLOG and isinstance(event, Preview | Progress | ProgressState):
            for index, stale in enumerate(self._events):
                if type(stale) is type(event):
                    del self._events[index]
                    break
        self._events.append(event)
        self._ready.set()
