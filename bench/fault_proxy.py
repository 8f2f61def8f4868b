"""A TCP proxy that breaks the way networks do, on command."""

import asyncio
import contextlib
from types import TracebackType
from typing import Self

CHUNK = 1 << 16


class FaultProxy:
    """``async with FaultProxy(host, port)`` listens on a port of 127.0.0.1 and passes on to there.

    ``port`` is where it listens. All commands work at once and on open connections too, unless
    they say otherwise.
    """

    def __init__(self, host: str, port: int, *, listen_port: int = 0) -> None:
        self._to = host, port
        self.port = listen_port
        self.delay_seconds = 0.0  # added to each piece that passes
        self._server: asyncio.Server | None = None
        self._open: set[asyncio.StreamWriter] = set()
        self._handlers: set[asyncio.Task[None]] = set()
        self._flowing = asyncio.Event()
        self._flowing.set()

    async def __aenter__(self) -> Self:
        await self.accept()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.refuse()
        self.reset()
        for handler in list(self._handlers):
            handler.cancel()
        await asyncio.gather(*self._handlers, return_exceptions=True)

    async def accept(self) -> None:
        """Listen (again), at the same port."""
        if self._server is None:
            self._server = await asyncio.start_server(self._serve, "127.0.0.1", self.port)
            self.port = self._server.sockets[0].getsockname()[1]

    async def refuse(self) -> None:
        """Stop listening: who connects now finds nobody there. Open connections stay."""
        if self._server is not None:
            self._server.close()
            self._server = None

    def hold(self) -> None:
        """Half-open: accept and keep connections, but let nothing through in any direction."""
        self._flowing.clear()

    def flow(self) -> None:
        """Pass on again, what was held back first."""
        self._flowing.set()

    def reset(self) -> int:
        """Break all open connections with RST; how many ends there were."""
        count = 0
        for writer in list(self._open):
            with contextlib.suppress(RuntimeError, OSError):
                writer.transport.abort()
                count += 1
        return count

    async def cut(self, seconds: float) -> None:
        """Nobody there for a while, and open connections broken."""
        await self.refuse()
        self.reset()
        try:
            await asyncio.sleep(seconds)
        finally:
            await self.accept()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        if task is not None:
            self._handlers.add(task)
            task.add_done_callback(self._handlers.discard)
        self._open.add(writer)
        try:
            await self._flowing.wait()
            try:
                far_reader, far_writer = await asyncio.open_connection(*self._to)
            except OSError:
                return
            self._open.add(far_writer)
            try:
                async with asyncio.TaskGroup() as both:
                    both.create_task(self._pump(reader, far_writer))
                    both.create_task(self._pump(far_reader, writer))
            finally:
                self._open.discard(far_writer)
                far_writer.transport.abort()
        except asyncio.CancelledError:
            return  # we are leaving: asyncio would report each connection that was open
        finally:
            self._open.discard(writer)
            writer.transport.abort()

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while data := await reader.read(CHUNK):
                if self.delay_seconds:
                    await asyncio.sleep(self.delay_seconds)
                await self._flowing.wait()
                writer.write(data)
                await writer.drain()
            if writer.can_write_eof():
                writer.write_eof()
        except OSError:
            # The other side learns of a break as it would without us: a database that doesn't
            # keeps the locks of who has died.
            writer.transport.abort()
