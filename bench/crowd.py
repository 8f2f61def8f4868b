"""Many listeners in one process: ``python -m bench.crowd URL COUNT``.

Says ``subscribed`` once all are connected, listens until its standard input is closed, and then
says how many events all of them heard together.
"""

import asyncio
import contextlib
import sys
from urllib.parse import urlsplit

from bench.service import USER

SUBSCRIBED = "subscribed"
CONNECTING = 50  # at once


class Listener(asyncio.Protocol):
    """One stream of server-sent events, counted and thrown away.

    Reading costs as little as can be, because the machine that is measured pays for it.
    """

    def __init__(self, request: bytes) -> None:
        self._request = request
        self._ready = asyncio.get_running_loop().create_future()
        self.events = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        transport.write(self._request)

    def data_received(self, data: bytes) -> None:
        if not self._ready.done():
            if data.startswith(b"HTTP/1.1 200"):
                self._ready.set_result(None)
            else:
                self._ready.set_exception(ConnectionError(data[:200].decode(errors="replace")))
        self.events += data.count(b"\nevent:") + data.startswith(b"event:")

    async def subscribed(self) -> None:
        await self._ready


async def listen(url: str, count: int) -> None:
    address = urlsplit(url)
    request = (
        f"GET /v1/events?user={USER} HTTP/1.1\r\nHost: {address.netloc}\r\n"
        "Accept: text/event-stream\r\n\r\n"
    ).encode()
    host, port = address.hostname or "127.0.0.1", address.port or 80
    loop = asyncio.get_running_loop()
    places = asyncio.Semaphore(CONNECTING)

    async def connect() -> tuple[asyncio.BaseTransport, Listener]:
        async with places:
            transport, listener = await loop.create_connection(
                lambda: Listener(request), host, port
            )
            await listener.subscribed()
            return transport, listener

    connected = await asyncio.gather(*(connect() for _ in range(count)))
    print(SUBSCRIBED, flush=True)
    await asyncio.to_thread(sys.stdin.read)
    print(sum(listener.events for _, listener in connected), flush=True)
    for transport, _ in connected:
        transport.close()


def allow_open_files(count: int) -> None:
    """Raise the number of files that this process and those it starts may open, if it must be."""
    if sys.platform == "win32":
        return
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = count + 256
    if soft != resource.RLIM_INFINITY and soft < wanted:
        most = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        with contextlib.suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))


if __name__ == "__main__":
    allow_open_files(int(sys.argv[2]))
    with asyncio.Runner() as runner:
        runner.run(listen(sys.argv[1], int(sys.argv[2])))
