"""A TCP proxy that misbehaves when told to: in front of an engine, a database or Redis."""

import asyncio
import contextlib
import socket
import struct
from types import TracebackType
from typing import Literal, Self

Fault = Literal["pass", "delay", "swallow", "refuse"]
CHUNK_BYTES = 1 << 16
_RESET_ON_CLOSE = struct.pack("ii", 1, 0)  # SO_LINGER of no time: the peer sees RST, not FIN


class FaultProxy:
    """``async with FaultProxy(host, port) as proxy`` listens on ``proxy.port`` of 127.0.0.1.

    ``fault`` is how it behaves from now on, to open connections too:
    pass: as if it weren't there; delay: every chunk waits ``delay_seconds``; swallow: half-open,
    connections are accepted and bytes taken, but none goes on; refuse: nothing is accepted.
    """

    def __init__(self, host: str, port: int, *, delay_seconds: float = 0.2) -> None:
        self._target = (host, port)
        self.delay_seconds = delay_seconds
        self.port = 0
        self.connections = 0
        self._fault: Fault = "pass"
        self._changed = asyncio.Event()
        self._server: asyncio.Server | None = None
        self._open: dict[asyncio.Task[None], list[asyncio.StreamWriter]] = {}
        self._cut_after: int | None = None

    @property
    def fault(self) -> Fault:
        return self._fault

    async def __aenter__(self) -> Self:
        await self._listen()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self._stop_listening()
        self.reset()
        await asyncio.gather(*self._open, return_exceptions=True)

    async def set(self, fault: Fault) -> None:
        """Behave so from now on. Refusing leaves what is open open: see ``reset``."""
        was, self._fault = self._fault, fault
        self._changed.set()
        self._changed = asyncio.Event()
        if fault == "refuse":
            await self._stop_listening()
        elif was == "refuse":
            await self._listen()

    def reset(self) -> int:
        """Reset every open connection; how many there were."""
        for task, writers in list(self._open.items()):
            for writer in writers:
                raw = writer.get_extra_info("socket")
                with contextlib.suppress(OSError):
                    raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
                writer.transport.abort()
            task.cancel()
        return len(self._open)

    def cut_after(self, count_bytes: int) -> None:
        """End the next connection that answers, in the middle: after so many bytes of answer."""
        self._cut_after = count_bytes

    async def _listen(self) -> None:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", self.port)
        self.port = self._server.sockets[0].getsockname()[1]

    async def _stop_listening(self) -> None:
        if self._server is not None:
            self._server.close()
            self._server = None

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self.connections += 1
        self._open[task] = writers = [writer]
        try:
            while self._fault == "swallow":
                await self._changed.wait()
            there, onward = await asyncio.open_connection(*self._target)
            writers.append(onward)
            async with asyncio.TaskGroup() as group:
                group.create_task(self._pump(reader, onward, answers=False))
                group.create_task(self._pump(there, writer, answers=True))
        except* (OSError, asyncio.CancelledError):
            pass  # either end went, or a fault ended it: both ends are closed below
        finally:
            for one in writers:
                one.transport.abort() if one.is_closing() else one.close()
            self._open.pop(task, None)

    async def _pump(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, answers: bool
    ) -> None:
        while data := await reader.read(CHUNK_BYTES):
            while self._fault == "swallow":
                # What was swallowed for a while comes late, as after a lost packet.
                await self._changed.wait()
            if self._fault == "delay":
                await asyncio.sleep(self.delay_seconds)
            if answers and self._cut_after is not None:
                kept, self._cut_after = self._cut_after, None
                writer.write(data[:kept])
                await writer.drain()
                raise ConnectionResetError("cut")
            writer.write(data)
            await writer.drain()
        with contextlib.suppress(OSError):
            if writer.can_write_eof():
                writer.write_eof()
