"""Prompts that wait, the one that runs, and the history of those that ran."""

import heapq
import itertools
import threading
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from atelier.engine.graph import Graph

# ComfyUI keeps its users' credentials out of its history.
_SECRET_KEYS: Final = ("auth_token_comfy_org", "api_key_comfy_org")


@dataclass(frozen=True, slots=True)
class Prompt:
    """``outputs``: the nodes to be run, with all that they need. None of it changes."""

    number: float
    id: str
    graph: Graph
    extra_data: Mapping[str, Any]
    outputs: list[str]

    @property
    def client_id(self) -> str | None:
        client_id = self.extra_data.get("client_id")
        return client_id if isinstance(client_id, str) else None

    def told(self) -> list[Any]:
        """Return the prompt as /queue and /history tell it."""
        return [self.number, self.id, self.graph, self.extra_data, self.outputs]


@dataclass(frozen=True, slots=True)
class Running:
    prompt: Prompt
    interrupt: threading.Event = field(default_factory=threading.Event)


@dataclass(frozen=True, slots=True)
class Ended:
    """How a prompt ended: what /history tells besides the prompt."""

    succeeded: bool
    outputs: Mapping[str, Any]
    meta: Mapping[str, Any]
    messages: list[tuple[str, Mapping[str, Any]]]


class PromptQueue:
    """Shared by the event loop, which fills it, and the worker, which empties it.

    ``on_change`` gets the number of prompts waiting and running whenever it may have changed,
    from whichever thread changed it.
    """

    def __init__(self, max_history: int, on_change: Callable[[int], None]) -> None:
        self._lock = threading.Condition()
        self._waiting: list[tuple[float, int, Prompt]] = []
        self._sequence = itertools.count()
        self._running: Running | None = None
        self._history: dict[str, dict[str, Any]] = {}
        self._max_history = max_history
        self._on_change = on_change
        self._free_memory = False
        self._closed = False

    def put(self, prompt: Prompt) -> None:
        with self._lock:
            heapq.heappush(self._waiting, (prompt.number, next(self._sequence), prompt))
            self._changed()
            self._lock.notify()

    def take(self) -> Running | None:
        """Wait for a prompt; None when the queue was closed, or memory is to be freed."""
        with self._lock:
            while not (self._waiting or self._closed or self._free_memory):
                self._lock.wait()
            if self._closed or self._free_memory:
                return None
            self._running = Running(heapq.heappop(self._waiting)[2])
            self._changed()
            return self._running

    def finish(self, running: Running, ended: Ended) -> None:
        """Move the running prompt into the history."""
        with self._lock:
            self._running = None
            self._remember(running.prompt, ended)
            self._changed()

    def close(self) -> None:
        """Interrupt what runs and let the worker go."""
        with self._lock:
            self._closed = True
            if self._running is not None:
                self._running.interrupt.set()
            self._lock.notify_all()

    @property
    def closed(self) -> bool:
        return self._closed

    @property
    def remaining(self) -> int:
        """How many prompts wait or run."""
        return len(self._waiting) + (self._running is not None)

    def told(self) -> dict[str, Any]:
        """Return what GET /queue answers."""
        with self._lock:
            running = [] if self._running is None else [self._running.prompt.told()]
            pending = [prompt.told() for _, _, prompt in sorted(self._waiting, key=_place)]
        return {"queue_running": running, "queue_pending": pending}

    def clear(self) -> None:
        with self._lock:
            self._waiting.clear()
            self._changed()

    def delete(self, prompt_ids: Iterable[Any]) -> None:
        """Drop waiting prompts: for each id the one posted first."""
        with self._lock:
            for prompt_id in prompt_ids:
                found = [entry for entry in self._waiting if entry[2].id == prompt_id]
                if found:
                    self._waiting.remove(min(found, key=_place))
                    heapq.heapify(self._waiting)
                    self._changed()

    def interrupt(self, prompt_id: str | None) -> None:
        """Stop the running prompt before its next step; with an id only if it is that one."""
        with self._lock:
            running = self._running
            if running is not None and prompt_id in (None, running.prompt.id):
                running.interrupt.set()

    def request_free(self) -> None:
        """Have the worker drop its cache before the next prompt."""
        with self._lock:
            self._free_memory = True
            self._lock.notify_all()

    def free_requested(self) -> bool:
        """Return whether memory is to be freed, once per request."""
        with self._lock:
            requested, self._free_memory = self._free_memory, False
            return requested

    def history(
        self, prompt_id: str | None = None, *, max_items: int | None = None, offset: int = -1
    ) -> dict[str, Any]:
        """Return entries by prompt id: one, or ``max_items`` from ``offset`` (-1: the last)."""
        with self._lock:
            if prompt_id is not None:
                entry = self._history.get(prompt_id)
                return {} if entry is None else {prompt_id: entry}
            if offset < 0 and max_items is not None:
                offset = len(self._history) - max_items
            start = max(offset, 0)
            stop = None if max_items is None else start + max(max_items, 0)
            return dict(itertools.islice(self._history.items(), start, stop))

    def clear_history(self) -> None:
        with self._lock:
            self._history.clear()

    def delete_history(self, prompt_ids: Iterable[Any]) -> None:
        with self._lock:
            for prompt_id in prompt_ids:
                self._history.pop(prompt_id, None)

    def _remember(self, prompt: Prompt, ended: Ended) -> None:
        shown = {k: v for k, v in prompt.extra_data.items() if k not in _SECRET_KEYS}
        self._history.pop(prompt.id, None)
        while len(self._history) >= max(self._max_history, 1):
            del self._history[next(iter(self._history))]
        self._history[prompt.id] = {
            "prompt": [prompt.number, prompt.id, prompt.graph, shown, prompt.outputs],
            "outputs": ended.outputs,
            "status": {
                "status_str": "success" if ended.succeeded else "error",
                "completed": ended.succeeded,
                "messages": ended.messages,
            },
            "meta": ended.meta,
        }

    def _changed(self) -> None:
        self._on_change(self.remaining)


def _place(entry: tuple[float, int, Prompt]) -> tuple[float, int]:
    return entry[:2]
