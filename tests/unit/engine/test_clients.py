import asyncio
import json

import pytest
from aiohttp import WSCloseCode

from atelier.comfy.protocol import Executing, Preview
from atelier.engine import clients
from atelier.engine.clients import Client, Clients


class StuckSocket:
    """A socket whose other end reads only when it is told to."""

    def __init__(self) -> None:
        self.closed = False
        self.close_code: int | None = None
        self.sent: list[str | bytes] = []
        self.reads = asyncio.Event()

    async def send_str(self, frame: str) -> None:
        await self.reads.wait()
        self.sent.append(frame)

    send_bytes = send_str

    async def close(self, *, code: int, message: bytes = b"") -> None:
        self.closed, self.close_code = True, code


async def settle() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


async def test_frames_are_written_in_order_text_and_binary_alike():
    socket = StuckSocket()
    client = Client("a", socket)
    socket.reads.set()
    for frame in ("1", b"2", "3"):
        client.put(frame)
    writer = asyncio.create_task(client.write())
    await settle()
    writer.cancel()
    assert socket.sent == ["1", b"2", "3"]


async def test_client_that_leaves_too_much_unread_is_cut_off(monkeypatch):
    monkeypatch.setattr(clients, "_MOST_UNREAD_BYTES", 100)
    socket = StuckSocket()
    client = Client("slow", socket)
    client.put("first")
    writer = asyncio.create_task(client.write())
    await settle()
    client.put("x" * 101)
    socket.reads.set()
    await asyncio.wait_for(writer, 5)
    assert socket.sent == ["first"]
    assert socket.close_code == WSCloseCode.TRY_AGAIN_LATER


@pytest.mark.parametrize(("with_metadata", "event"), [(False, 1), (True, 4)])
async def test_preview_is_encoded_as_the_client_asked(with_metadata, event):
    hub = Clients(lambda: 0)
    hub.attach(asyncio.get_running_loop())
    client = Client("a", StuckSocket())
    client.supports_metadata = with_metadata
    frames = []
    client.put = frames.append
    hub._clients["a"] = client
    hub.send("a", Preview(b"jpeg", "image/jpeg", "p", "3"))
    await settle()
    assert int.from_bytes(frames[0][:4], "big") == event


async def test_messages_from_other_threads_arrive_in_order():
    hub = Clients(lambda: 0)
    hub.attach(asyncio.get_running_loop())
    client = Client("a", StuckSocket())
    frames = []
    client.put = frames.append
    hub._clients["a"] = client

    def send_many() -> None:
        for number in range(500):
            hub.send("a", Executing("p", str(number)))

    await asyncio.to_thread(send_many)
    await settle()
    assert [json.loads(frame)["data"]["node"] for frame in frames] == [str(n) for n in range(500)]


async def test_messages_for_nobody_are_dropped():
    hub = Clients(lambda: 0)
    hub.attach(asyncio.get_running_loop())
    hub.send("absent", Executing("p", None))
    await settle()
    assert not hub.is_there("absent")
    assert hub.count == 0
