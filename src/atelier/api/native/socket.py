"""Many subscriptions over one WebSocket.

The client sends {"type": "subscribe", "job": ID} or {"type": "subscribe", "user": NAME}, with
"previews": true, "nodes": true and "last_event_id" where wished; "unsubscribe" with the same
name; "ping".
It gets "subscribed", "unsubscribed", "pong", "error", and events as over server-sent events.
"""

import asyncio
from typing import Any

import orjson
from fastapi import WebSocket
from starlette.websockets import WebSocketDisconnect

from atelier.api.json import encode
from atelier.api.native.render import event_json
from atelier.api.streams import OpenStreams, resume_id
from atelier.errors import AtelierError, InvalidRequest
from atelier.service import Generations

_MAX_SUBSCRIPTIONS = 100
_MAX_MESSAGE_CHARACTERS = 10_000
_TYPES = ("subscribe", "unsubscribe", "ping")

Target = tuple[str, str]


class EventSocket:
    def __init__(
        self, websocket: WebSocket, generations: Generations, streams: OpenStreams
    ) -> None:
        self._websocket = websocket
        self._generations = generations
        self._streams = streams
        self._tasks: dict[Target, asyncio.Task[None]] = {}

    async def run(self) -> None:
        """Serve the socket until either side goes."""
        await self._websocket.accept()
        try:
            while True:
                await self._answer(await self._websocket.receive())
        except WebSocketDisconnect:
            pass
        finally:
            for task in self._tasks.values():
                task.cancel()
            await asyncio.gather(*self._tasks.values(), return_exceptions=True)

    async def _answer(self, received: Any) -> None:
        if received["type"] == "websocket.disconnect":
            raise WebSocketDisconnect(received.get("code", 1005))
        text: str | bytes = received.get("text") or received.get("bytes") or ""
        try:
            await self._obey(_parse(text))
        except AtelierError as error:
            await self._send_error(error)

    async def _obey(self, message: dict[str, Any]) -> None:
        match message.get("type"):
            case "ping":
                await self._send({"type": "pong"})
            case "subscribe":
                await self._subscribe(message)
            case "unsubscribe":
                target = _target(message)
                task = self._tasks.pop(target, None)
                if task is not None:
                    task.cancel()
                await self._send({"type": "unsubscribed", target[0]: target[1]})
            case other:
                raise InvalidRequest(
                    f"There is no message of type {other!r}.",
                    hint=f"Send one of: {', '.join(_TYPES)}.",
                    allowed=list(_TYPES),
                )

    async def _subscribe(self, message: dict[str, Any]) -> None:
        target = _target(message)
        if target in self._tasks:
            self._tasks.pop(target).cancel()
        if len(self._tasks) >= _MAX_SUBSCRIPTIONS:
            raise InvalidRequest(
                f"A socket may have {_MAX_SUBSCRIPTIONS} subscriptions.",
                hint="Subscribe to the user instead, or unsubscribe from what has ended.",
            )
        last = message.get("last_event_id")
        if last is not None and not isinstance(last, str):
            raise InvalidRequest("last_event_id must be text.")
        if target[0] == "job":
            await self._generations.get(target[1])
        extras = {name: bool(message.get(name)) for name in ("previews", "nodes")}
        task = asyncio.create_task(self._forward(target, extras, last))
        self._tasks[target] = task
        task.add_done_callback(lambda done: self._forget(target, done))

    def _forget(self, target: Target, task: asyncio.Task[None]) -> None:
        if self._tasks.get(target) is task:
            del self._tasks[target]

    async def _forward(self, target: Target, extras: dict[str, bool], last: str | None) -> None:
        kind, name = target
        last_event_id, _ = resume_id(last)
        subscribing = self._generations.follow(
            job=name if kind == "job" else None,
            user=name if kind == "user" else None,
            last_event_id=last_event_id,
            **extras,
        )
        try:
            async with self._streams.follow(subscribing) as subscription:
                await self._send({"type": "subscribed", kind: name})
                while events := await subscription.batch():
                    for event in events:
                        await self._send_bytes(event.encoded("json:native", event_json))
                    if kind == "job" and events.ends:
                        return
        except AtelierError as error:
            await self._send_error(error, **{kind: name})
        except (WebSocketDisconnect, RuntimeError):
            # starlette raises either when the client has gone in the middle of a send.
            return

    async def _send_error(self, error: AtelierError, **about: str) -> None:
        await self._send(
            {
                "type": "error",
                "code": error.code,
                "message": error.message,
                "hint": error.hint or None,
                **about,
            }
        )

    async def _send(self, message: dict[str, Any]) -> None:
        await self._send_bytes(encode(message))

    async def _send_bytes(self, message: bytes) -> None:
        await self._websocket.send_text(message.decode())


def _parse(text: str | bytes) -> dict[str, Any]:
    if len(text) > _MAX_MESSAGE_CHARACTERS:
        raise InvalidRequest(f"A message may have {_MAX_MESSAGE_CHARACTERS} characters.")
    try:
        message = orjson.loads(text)
    except orjson.JSONDecodeError as error:
        raise InvalidRequest(
            f"The message isn't JSON: {error}.", hint='For example {"type": "ping"}.'
        ) from None
    if not isinstance(message, dict):
        raise InvalidRequest(
            "The message must be a JSON object.", hint='For example {"type": "ping"}.'
        )
    return message


def _target(message: dict[str, Any]) -> Target:
    named = [
        (kind, message[kind]) for kind in ("job", "user") if isinstance(message.get(kind), str)
    ]
    if len(named) != 1 or not named[0][1] or not named[0][1].isprintable():
        raise InvalidRequest(
            "Say what to listen to: either job or user.",
            hint='For example {"type": "subscribe", "user": "ada"}.',
        )
    return named[0]
