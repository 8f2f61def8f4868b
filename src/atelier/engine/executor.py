"""Runs one prompt after another, telling the client about each step."""

import logging
import time
import traceback
from collections import Counter
from collections.abc import Mapping
from typing import Any, Protocol

import orjson

from atelier.comfy.protocol import (
    Executed,
    Executing,
    ExecutionCached,
    ExecutionError,
    ExecutionInterrupted,
    ExecutionStart,
    ExecutionSuccess,
    Message,
    NodeProgress,
    Preview,
    Progress,
    ProgressState,
    encode_text,
)
from atelier.engine.cache import Result, ResultCache, Signature, signatures
from atelier.engine.folders import Folders
from atelier.engine.graph import Plan, is_link, node_class, upstream
from atelier.engine.nodes.frames import Frames
from atelier.engine.nodes.node import Bytes
from atelier.engine.nodes.pictures import encode_png, encode_preview
from atelier.engine.prompt_queue import Ended, PromptQueue, Running

log = logging.getLogger(__name__)


class Audience(Protocol):
    """Where messages to clients go; may be called from any thread."""

    def send(self, client_id: str, message: Message) -> None: ...
    def is_there(self, client_id: str) -> bool: ...
    def supports_metadata(self, client_id: str) -> bool: ...
    def at_node(self, client_id: str | None, node_id: str | None) -> None:
        """Note what to tell ``client_id`` if it comes back now."""


class Interrupted(Exception):
    """The prompt that runs was interrupted."""


def work(queue: PromptQueue, cache: ResultCache, folders: Folders, audience: Audience) -> None:
    """Run what is in ``queue`` until it is closed."""
    while not queue.closed:
        running = queue.take()
        if queue.free_requested():
            cache.clear()
        if running is None:
            continue
        run = _Run(running, cache, folders, audience)
        try:
            ended = run.execute()
        except Exception as error:  # the worker must outlive whatever a graph does to it
            log.exception("Prompt %s broke the executor", running.prompt.id)
            ended = run.give_up(error)
        queue.finish(running, ended)
        run.send(Executing(running.prompt.id, None))


class _Run:
    """One prompt's way through its nodes; also the context of the node that runs."""

    def __init__(
        self, running: Running, cache: ResultCache, folders: Folders, audience: Audience
    ) -> None:
        prompt = running.prompt
        self.folders = folders
        self.prompt = prompt.graph
        self._running = running
        self._id = prompt.id
        self._client_id = prompt.client_id
        self._cache = cache
        self._audience = audience
        self._signatures: dict[str, Signature] = {}
        self._results: dict[Signature, Result] = {}
        self._shown: dict[str, Mapping[str, Any]] = {}
        self._states: dict[str, NodeProgress] = {}
        self._messages: list[tuple[str, Mapping[str, Any]]] = []
        self._executed: list[str] = []
        self._node_id = ""

    @property
    def extra_pnginfo(self) -> Mapping[str, Any]:
        extra = self._running.prompt.extra_data.get("extra_pnginfo")
        return extra if isinstance(extra, dict) else {}

    def execute(self) -> Ended:
        """Run the prompt to its end, whatever that is."""
        self._record(ExecutionStart(self._id, _now_ms()))
        self._signatures = signatures(self.prompt, self.folders)
        for signature in self._signatures.values():
            if (result := self._cache.get(signature)) is not None:
                self._results[signature] = result
        cached = tuple(node_id for node_id in self.prompt if self._is_done(node_id))
        self._record(ExecutionCached(self._id, cached, _now_ms()))
        self._show_cached(cached)
        succeeded = self._run_nodes()
        self._audience.at_node(self._client_id, None)
        meta = {node_id: _meta(node_id) for node_id in self._shown}
        return Ended(succeeded, dict(self._shown), meta, self._messages)

    def give_up(self, error: Exception) -> Ended:
        """Tell that the prompt failed outside of any node."""
        self._record(self._describe(error, next(iter(self.prompt)), {}))
        self._audience.at_node(self._client_id, None)
        return Ended(False, {}, {}, self._messages)

    def _show_cached(self, cached: tuple[str, ...]) -> None:
        for node_id in cached:
            if (ui := self._results[self._signatures[node_id]].ui) is not None:
                self._shown[node_id] = ui

    def _run_nodes(self) -> bool:
        plan = Plan(self.prompt, self._running.prompt.outputs, self._is_done)
        uses = Counter(signature for node_id in plan.nodes for signature in self._taken(node_id))
        while (node_id := plan.next()) is not None:
            self._node_id = node_id
            inputs: dict[str, Any] = {}
            try:
                self._run_node(node_id, inputs)
            except Interrupted:
                name = node_class(self.prompt, node_id).name
                executed = tuple(self._executed)
                self._record(ExecutionInterrupted(self._id, node_id, name, executed, _now_ms()))
                return False
            except Exception as error:  # noqa: BLE001 - a node may raise anything; the client is told
                self._record(self._describe(error, node_id, inputs))
                return False
            plan.finish(node_id)
            taken = self._taken(node_id)
            uses.subtract(taken)
            for signature in (*taken, self._signatures[node_id]):
                if not uses[signature]:
                    self._results.pop(signature, None)
        self._record(ExecutionSuccess(self._id, _now_ms()))
        return True

    def _run_node(self, node_id: str, inputs: dict[str, Any]) -> None:
        signature = self._signatures[node_id]
        # Either cached, or another node of this prompt did the same just now.
        known = self._results.get(signature) or self._cache.get(signature)
        if known is not None:
            self._results[signature] = known
            self.send(Executed(self._id, node_id, known.ui))
            if known.ui is not None:
                self._shown[node_id] = known.ui
            self._finish_progress(node_id)
            return
        node = node_class(self.prompt, node_id)
        self._set_progress(node_id, 0.0, 1.0, "running")
        self._audience.at_node(self._client_id, node_id)
        self.send(Executing(self._id, node_id, node_id))
        self._gather(node_id, inputs)
        self.check_interrupted()
        output = node.run(self, **inputs) if node.contextual else node.run(**inputs)
        result = Result(output.values, output.ui)
        self._results[signature] = result
        self._cache.put(signature, result)
        if output.ui is not None:
            self._shown[node_id] = output.ui
            self.send(Executed(self._id, node_id, output.ui))
        self._finish_progress(node_id)
        self._executed.append(node_id)

    def _gather(self, node_id: str, inputs: dict[str, Any]) -> None:
        given = self.prompt[node_id]["inputs"]
        node = node_class(self.prompt, node_id)
        for name in node.inputs:
            if name not in given:
                continue
            value = given[name]
            if is_link(value):
                value = self._results[self._signatures[value[0]]].values[value[1]]
                if isinstance(value, Frames) and not node.takes_frames:
                    value = value.whole()
            inputs[name] = value

    def _taken(self, node_id: str) -> set[Signature]:
        return {self._signatures[source] for source in upstream(self.prompt, node_id)}

    def check_interrupted(self) -> None:
        if self._running.interrupt.is_set():
            raise Interrupted

    def progress(self, value: int, maximum: int, picture: Bytes | None = None) -> None:
        self.check_interrupted()
        self._set_progress(self._node_id, value, maximum, "running")
        messages: list[Message] = [Progress(self._id, self._node_id, value, maximum)]
        if picture is not None and self._is_watched():
            png = encode_png(picture, compress_level=1)
            messages.append(Preview(png, "image/png", self._id, self._node_id))
            # ComfyUI sends a picture with metadata before the step, one without after it.
            if self._audience.supports_metadata(self._client_id or ""):
                messages.reverse()
        for message in messages:
            self.send(message)

    def preview(self, picture: Bytes) -> None:
        if self._is_watched():
            jpeg = encode_preview(picture)
            self.send(Preview(jpeg, "image/jpeg", self._id, self._node_id))

    def _is_watched(self) -> bool:
        return self._client_id is not None and self._audience.is_there(self._client_id)

    def send(self, message: Message) -> None:
        """Tell the client who posted the prompt, if it said who it is."""
        if self._client_id is not None:
            self._audience.send(self._client_id, message)

    def _record(self, message: Message) -> None:
        frame = orjson.loads(encode_text(message))
        self._messages.append((frame["type"], frame["data"]))
        self.send(message)

    def _is_done(self, node_id: str) -> bool:
        return self._signatures[node_id] in self._results

    def _set_progress(self, node_id: str, value: float, maximum: float, state: str) -> None:
        self._states[node_id] = NodeProgress(node_id, value, maximum, state)
        self.send(ProgressState(self._id, self._states))

    def _finish_progress(self, node_id: str) -> None:
        state = self._states.get(node_id)
        maximum = 1 if state is None else state.max
        self._set_progress(node_id, maximum, maximum, "finished")

    def _describe(
        self, error: Exception, node_id: str, inputs: Mapping[str, Any]
    ) -> ExecutionError:
        name = node_class(self.prompt, node_id).name
        log.warning("Node %s (%s) failed: %s", node_id, name, error)
        return ExecutionError(
            prompt_id=self._id,
            node_id=node_id,
            node_type=name,
            exception_type=_full_name(type(error)),
            exception_message=f"{error}\n",
            traceback=tuple(traceback.format_tb(error.__traceback__)),
            executed=tuple(self._executed),
            current_inputs={name: [_printable(value)] for name, value in inputs.items()},
            current_outputs=tuple(self.prompt),
            timestamp_ms=_now_ms(),
        )


def _meta(node_id: str) -> dict[str, Any]:
    return {
        "node_id": node_id,
        "display_node": node_id,
        "parent_node": None,
        "real_node_id": node_id,
    }


def _full_name(kind: type) -> str:
    module = kind.__module__
    return kind.__qualname__ if module == "builtins" else f"{module}.{kind.__qualname__}"


def _printable(value: Any) -> Any:
    return value if value is None or isinstance(value, bool | int | float | str) else str(value)


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
