"""The WebSocket clients: who is there, what each understands, and what it is told."""

import asyncio
import threading
from collections import deque
from collections.abc import Callable
from typing import Any, Final
from uuid import uuid4

import orjson
from aiohttp import WSCloseCode, WSMsgType, web

from atelier.comfy.protocol import (
    Executing,
    FeatureFlags,
    Message,
    Preview,
    Status,
    encode_preview,
    encode_text,
)

FEATURES: Final = {"supports_preview_metadata": True, "max_upload_size": 100 * 1024 * 1024}
_FAREWELL_SECONDS: Final = 0.5  # for a client to answer that the socket closes
# A client that leaves so much unread is cut off; it can reconnect and look at /history.
_MOST_UNREAD_BYTES: Final = 256 * 1024 * 1024


class Client:
    """One WebSocket; its messages wait in order until they are written."""

    def __init__(self, client_id: str, socket: web.WebSocketResponse) -> None:
        self.id = client_id
        self.supports_metadata = False
        self._socket = socket
        self._unsent: deque[str | bytes] = deque()
        self._unsent_bytes = 0
        self._filled = asyncio.Event()

    def put(self, frame: str | bytes) -> None:
        """Have ``frame`` written after those before it. Call it on the event loop."""
        self._unsent.append(frame)
        self._unsent_bytes += len(frame)
        self._filled.set()

    async def write(self) -> None:
        """Write what is put, until the socket breaks or the client is too slow."""
        while not self._socket.closed:
            await self._filled.wait()
            self._filled.clear()
            while self._unsent:
                if self._unsent_bytes > _MOST_UNREAD_BYTES:
                    await self._socket.close(code=WSCloseCode.TRY_AGAIN_LATER)
                    return
                frame = self._unsent.popleft()
                self._unsent_bytes -= len(frame)
                if isinstance(frame, str):
                    await self._socket.send_str(frame)
                else:
                    await self._socket.send_bytes(frame)

    async def close(self) -> None:
        await self._socket.close(code=WSCloseCode.GOING_AWAY, message=b"the engine ends")


class Clients:
    """Gives messages to clients. ``send``, ``broadcast`` and ``at_node`` suit any thread."""

    def __init__(self, remaining: Callable[[], int]) -> None:
        self._remaining = remaining
        self._clients: dict[str, Client] = {}
        self._sockets = 0
        self._current: tuple[str | None, str | None] = (None, None)
        self._outbox: deque[tuple[str | None, str | bytes]] = deque()
        self._wake_up_due = False
        self._lock = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None

    def attach(self, loop: asyncio.AbstractEventLoop) -> None:
        """Name the loop that the sockets live on, before anything is sent."""
        self._loop = loop

    @property
    def count(self) -> int:
        """How many sockets are open."""
        return self._sockets

    def is_there(self, client_id: str) -> bool:
        return client_id in self._clients

    def supports_metadata(self, client_id: str) -> bool:
        """Return whether the client asked for pictures with metadata."""
        client = self._clients.get(client_id)
        return client is not None and client.supports_metadata

    def at_node(self, client_id: str | None, node_id: str | None) -> None:
        """Note which node of whose prompt runs: a client that reconnects is told."""
        self._current = (client_id, node_id)

    def send(self, client_id: str, message: Message) -> None:
        """Send ``message``, encoded now, if the client is there when its turn comes."""
        if isinstance(message, Preview):
            with_metadata = self.supports_metadata(client_id)
            self._post(client_id, encode_preview(message, with_metadata=with_metadata))
        else:
            self._post(client_id, encode_text(message))

    def broadcast_remaining(self, remaining: int) -> None:
        """Tell everybody how many prompts wait or run."""
        self._post(None, encode_text(Status(remaining)))

    def _post(self, client_id: str | None, frame: str | bytes) -> None:
        # One wake-up delivers all that gathered meanwhile.
        with self._lock:
            self._outbox.append((client_id, frame))
            wake_up, self._wake_up_due = not self._wake_up_due, True
        if wake_up and self._loop is not None and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._deliver)

    def _deliver(self) -> None:
        with self._lock:
            frames, self._outbox = self._outbox, deque()
            self._wake_up_due = False
        for client_id, frame in frames:
            if client_id is None:
                for client in self._clients.values():
                    client.put(frame)
            elif (addressed := self._clients.get(client_id)) is not None:
                addressed.put(frame)

    async def serve(self, request: web.Request) -> web.WebSocketResponse:
        """Handle /ws: greet, then listen until the client goes."""
        # Compressing pictures that are compressed already costs more than it saves.
        socket = web.WebSocketResponse(compress=False, timeout=_FAREWELL_SECONDS)
        await socket.prepare(request)
        client = Client(request.query.get("clientId") or uuid4().hex, socket)
        self._clients[client.id] = client
        self._sockets += 1
        writer = asyncio.create_task(self._write(client))
        try:
            client.put(encode_text(Status(self._remaining(), client.id)))
            running_for, node_id = self._current
            if running_for == client.id and node_id is not None:
                client.put(encode_text(Executing(None, node_id)))
            await self._listen(client, socket)
        finally:
            self._sockets -= 1
            # Unless a newer socket has taken the id over.
            if self._clients.get(client.id) is client:
                del self._clients[client.id]
            writer.cancel()
        return socket

    async def _listen(self, client: Client, socket: web.WebSocketResponse) -> None:
        first = True
        async for message in socket:
            if message.type is not WSMsgType.TEXT:
                continue
            if first and (flags := _feature_flags(message.data)) is not None:
                client.supports_metadata = flags.get("supports_preview_metadata") is True
                client.put(encode_text(FeatureFlags(FEATURES)))
            first = False

    async def _write(self, client: Client) -> None:
        try:
            await client.write()
        except (ConnectionError, RuntimeError):
            # The listener notices the broken socket too, and ends the handler.
            await client.close()

    async def close(self) -> None:
        """Close all sockets."""
        await asyncio.gather(*(client.close() for client in list(self._clients.values())))


def _feature_flags(text: str) -> dict[str, Any] | None:
    try:
        frame = orjson.loads(text)
    except orjson.JSONDecodeError:
        return None
    if not isinstance(frame, dict) or frame.get("type") != "feature_flags":
        return None
    data = frame.get("data")
    return data if isinstance(data, dict) else {}
