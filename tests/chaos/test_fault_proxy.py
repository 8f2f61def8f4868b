"""The proxy does to connections what it says."""

import asyncio
from collections.abc import AsyncIterator

import pytest
from bench.fault_proxy import FaultProxy


async def _echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(100):
        writer.write(data)
    writer.close()


@pytest.fixture
async def proxy() -> AsyncIterator[FaultProxy]:
    server = await asyncio.start_server(_echo, "127.0.0.1", 0)
    async with server, FaultProxy(*server.sockets[0].getsockname()[:2]) as proxy:
        yield proxy


async def _said(proxy: FaultProxy, words: bytes) -> bytes:
    reader, writer = await asyncio.open_connection("127.0.0.1", proxy.port)
    try:
        writer.write(words)
        return await asyncio.wait_for(reader.read(100), 0.3)
    finally:
        writer.close()


async def test_it_passes_on_what_it_gets(proxy: FaultProxy) -> None:
    assert await _said(proxy, b"hello") == b"hello"


async def test_half_open_accepts_and_says_nothing(proxy: FaultProxy) -> None:
    await proxy.set("swallow")
    with pytest.raises(TimeoutError):
        await _said(proxy, b"hello")
    await proxy.set("pass")
    assert await _said(proxy, b"hello") == b"hello"


async def test_refusing_ends_with_passing(proxy: FaultProxy) -> None:
    await proxy.set("refuse")
    with pytest.raises(ConnectionRefusedError):
        await _said(proxy, b"hello")
    await proxy.set("pass")
    assert await _said(proxy, b"hello") == b"hello"


async def test_a_reset_is_seen_as_one(proxy: FaultProxy) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", proxy.port)
    writer.write(b"x")
    await reader.read(1)
    assert proxy.reset() == 1
    with pytest.raises(ConnectionResetError):
        await reader.read(1)
    writer.close()


async def test_it_cuts_an_answer_in_the_middle(proxy: FaultProxy) -> None:
    proxy.cut_after(2)
    assert await _said(proxy, b"hello") == b"he"
