"""The one WebSocket to a ComfyUI, kept up."""

import asyncio
import random
from collections.abc import Callable
from typing import Final

import aiohttp

from atelier.comfy.protocol import (
    FeatureFlags,
    Message,
    ProtocolError,
    decode_binary,
    decode_text,
    encode_text,
)
from atelier.comfy.transport import InstanceUnreachable, Transport
from atelier.errors import InstanceError

# Its own: the module's is seeded by who wants to repeat things.
_CHANCE = random.Random()

_HELLO: Final = encode_text(FeatureFlags({"supports_preview_metadata": True}))
_LONGEST_PAUSE_SECONDS: Final = 5.0


class Connection:
    """A WebSocket that comes back by itself, under the same client id.

    ``on_message`` gets every message, ``on_drop`` is called when the socket is lost and
    ``on_connect`` when ComfyUI has greeted a new one: only then does it send what happens.
    """

    def __init__(
        self,
        transport: Transport,
        client_id: str,
        *,
        ping_seconds: float,
        on_message: Callable[[Message], None],
        on_connect: Callable[[], None],
        on_drop: Callable[[], None],
    ) -> None:
        self._transport = transport
        self._client_id = client_id
        self._ping_seconds = ping_seconds
        self._on_message = on_message
        self._on_connect = on_connect
        self._on_drop = on_drop
        self._socket: aiohttp.ClientWebSocketResponse | None = None
        self.connected = asyncio.Event()
        self.connections = 0
        self.messages = 0

    async def run(self) -> None:
        """Keep the socket until cancelled, pausing 0.1 to 5 s (jittered) between attempts."""
        pause = 0.05
        while True:
            try:
                await self._listen()
                self._transport.last_error = "ComfyUI closed the WebSocket."
            except InstanceUnreachable:
                pass  # the transport has noted it
            except InstanceError as error:
                self._transport.last_error = error.message
            except (aiohttp.ClientError, OSError) as error:
                self._transport.failed(error)
            finally:
                was_connected = self.connected.is_set()
                self.connected.clear()
                self._socket = None
                if was_connected:
                    self._on_drop()
            pause = 0.1 if was_connected else min(pause * 2, _LONGEST_PAUSE_SECONDS)
            # Not for secrets: so that many clients don't return in step.
            await asyncio.sleep(pause * _CHANCE.uniform(0.5, 1))

    async def renew(self) -> None:
        """Close the socket, so that a fresh one follows."""
        if self._socket is not None:
            await self._socket.close()

    async def _probe(self) -> None:
        """Raise InstanceUnreachable or InstanceError unless a ComfyUI answers over HTTP.

        What is down, or something else, says so more clearly there than in a failed handshake.
        """
        seconds = self._transport.connect_timeout_seconds
        await self._transport.get_json("/system_stats", timeout_seconds=seconds)

    async def _listen(self) -> None:
        await self._probe()
        # A frozen process still accepts connections, but never answers the handshake.
        async with asyncio.timeout(self._transport.connect_timeout_seconds):
            socket = await self._transport.session.ws_connect(
                f"{self._transport.url}/ws",
                params={"clientId": self._client_id},
                max_msg_size=0,
                autoping=False,
                timeout=aiohttp.ClientWSTimeout(ws_close=2),
            )
        self._socket = socket
        try:
            await socket.send_str(_HELLO)
            await self._receive(socket)
        finally:
            await socket.close()

    async def _receive(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        silences = 0
        while True:
            try:
                frame = await socket.receive(self._ping_seconds)
            except TimeoutError:
                silences += 1
                # The ping after the first silence had as long again to be answered.
                if silences > 1:
                    raise TimeoutError("a ping was not answered") from None
                await socket.ping()
                continue
            silences = 0
            self._transport.alive()
            match frame.type:
                case aiohttp.WSMsgType.TEXT | aiohttp.WSMsgType.BINARY:
                    self._hand_on(frame.data)
                case aiohttp.WSMsgType.PING:
                    await socket.pong(frame.data)
                case aiohttp.WSMsgType.CLOSE | aiohttp.WSMsgType.CLOSING | aiohttp.WSMsgType.CLOSED:
                    return
                case aiohttp.WSMsgType.ERROR:
                    raise aiohttp.ClientError(str(frame.data)) from frame.data

    def _hand_on(self, frame: str | bytes) -> None:
        try:
            message = decode_text(frame) if isinstance(frame, str) else decode_binary(frame)
        except ProtocolError as error:
            # One odd frame of a custom node is no reason to lose the others.
            self._transport.last_error = error.message
            return
        if not self.connected.is_set():
            self.connections += 1
            self.connected.set()
            self._on_connect()
        self.messages += 1
        self._on_message(message)
