"""HTTP: /prompt, /queue, /interrupt, /free and /history."""

import itertools
import math
from collections.abc import Mapping
from typing import Any
from uuid import uuid4

from aiohttp import web

from atelier.engine.folders import Folders
from atelier.engine.http_json import answer, read_object, refuse
from atelier.engine.prompt_queue import Prompt, PromptQueue
from atelier.engine.validation import validate


class PromptRoutes:
    """Takes prompts in and tells what becomes of them."""

    def __init__(self, queue: PromptQueue, folders: Folders) -> None:
        self._queue = queue
        self._folders = folders
        self._numbers = itertools.count()

    def routes(self, prefix: str) -> list[web.RouteDef]:
        return [
            web.get(f"{prefix}/prompt", self.tell_remaining),
            web.post(f"{prefix}/prompt", self.submit),
            web.get(f"{prefix}/queue", self.tell_queue),
            web.post(f"{prefix}/queue", self.change_queue),
            web.post(f"{prefix}/interrupt", self.interrupt),
            web.post(f"{prefix}/free", self.free),
            web.get(f"{prefix}/history", self.tell_history),
            web.get(f"{prefix}/history/{{prompt_id}}", self.tell_entry),
            web.post(f"{prefix}/history", self.change_history),
        ]

    async def tell_remaining(self, request: web.Request) -> web.Response:
        return answer({"exec_info": {"queue_remaining": self._queue.remaining}})

    async def submit(self, request: web.Request) -> web.Response:
        body = await read_object(request)
        number = self._number(body)
        if "prompt" not in body:
            raise refuse("no_prompt", "No prompt provided", "No prompt provided")
        graph = body["prompt"]
        found = validate(graph, self._folders, _targets(body))
        if found.error is not None:
            return answer({"error": found.error, "node_errors": found.node_errors}, 400)
        prompt_id = str(body["prompt_id"]) if "prompt_id" in body else str(uuid4())
        self._queue.put(Prompt(number, prompt_id, graph, _extra_data(body), found.outputs))
        return answer({"prompt_id": prompt_id, "number": number, "node_errors": found.node_errors})

    def _number(self, body: Mapping[str, Any]) -> float:
        """Return the place in the queue: the lowest goes first."""
        if "number" not in body:
            place = next(self._numbers)
            return -place if body.get("front") else place
        try:
            number = float(body["number"])
        except (TypeError, ValueError, OverflowError) as error:
            raise refuse("invalid_number", "number must be a number", str(error)) from error
        if not math.isfinite(number):
            raise refuse("invalid_number", "number must be finite")
        return number

    async def tell_queue(self, request: web.Request) -> web.Response:
        return answer(self._queue.told())

    async def change_queue(self, request: web.Request) -> web.Response:
        body = await read_object(request)
        if body.get("clear"):
            self._queue.clear()
        self._queue.delete(_ids(body))
        return web.Response()

    async def interrupt(self, request: web.Request) -> web.Response:
        body = await read_object(request, empty_allowed=True)
        prompt_id = body.get("prompt_id")
        self._queue.interrupt(str(prompt_id) if prompt_id else None)
        return web.Response()

    async def free(self, request: web.Request) -> web.Response:
        body = await read_object(request)
        if body.get("free_memory"):
            self._queue.request_free()
        return web.Response()

    async def tell_history(self, request: web.Request) -> web.Response:
        max_items = _whole(request, "max_items")
        offset = _whole(request, "offset")
        return answer(
            self._queue.history(max_items=max_items, offset=-1 if offset is None else offset)
        )

    async def tell_entry(self, request: web.Request) -> web.Response:
        return answer(self._queue.history(request.match_info["prompt_id"]))

    async def change_history(self, request: web.Request) -> web.Response:
        body = await read_object(request)
        if body.get("clear"):
            self._queue.clear_history()
        self._queue.delete_history(_ids(body))
        return web.Response()


def _targets(body: Mapping[str, Any]) -> list[str] | None:
    targets = body.get("partial_execution_targets")
    if targets is not None and not isinstance(targets, list):
        raise refuse("invalid_body", "partial_execution_targets must be a list of node ids")
    return targets


def _extra_data(body: Mapping[str, Any]) -> dict[str, Any]:
    extra_data = body.get("extra_data", {})
    if not isinstance(extra_data, dict):
        raise refuse("invalid_body", "extra_data must be an object")
    if "client_id" in body:
        extra_data = {**extra_data, "client_id": body["client_id"]}
    return extra_data


def _ids(body: Mapping[str, Any]) -> list[str]:
    ids = body.get("delete", [])
    if not isinstance(ids, list):
        raise refuse("invalid_body", "delete must be a list of prompt ids")
    return [prompt_id for prompt_id in ids if isinstance(prompt_id, str)]


def _whole(request: web.Request, name: str) -> int | None:
    text = request.query.get(name)
    if text is None:
        return None
    try:
        return int(text)
    except ValueError as error:
        raise refuse("invalid_query", f"{name} must be a whole number") from error
