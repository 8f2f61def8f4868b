"""The proxy breaks connections as it says, and lets them through again."""

import asyncio
import importlib
from pathlib import Path

import pytest


@pytest.fixture
async def proxy(monkeypatch):
    """Before a server that says everything back."""
    monkeypatch.syspath_prepend(str(Path(__file__).parents[2]))
    module = importlib.import_module("bench.fault_proxy")

    async def echo(reader, writer):
        while data := await reader.read(100):
            writer.write(data)
        writer.close()

    server = await asyncio.start_server(echo, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    async with module.FaultProxy("127.0.0.1", port) as proxy:
        yield proxy
    server.close()


async def connect(proxy):
    return await asyncio.open_connection("127.0.0.1", proxy.port)


async def said_back(reader, writer, word=b"hello"):
    writer.write(word)
    return await reader.readexactly(len(word))


async def test_passes_both_ways(proxy):
    reader, writer = await connect(proxy)
    assert await said_back(reader, writer) == b"hello"
    writer.close()


async def test_holds_what_is_sent_until_it_flows_again(proxy):
    reader, writer = await connect(proxy)
    await said_back(reader, writer)
    proxy.hold()
    asking = asyncio.create_task(said_back(reader, writer))
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(asyncio.shield(asking), 0.1)
    proxy.flow()
    assert await asking == b"hello"
    writer.close()


async def test_resets_open_connections(proxy):
    reader, writer = await connect(proxy)
    await said_back(reader, writer)
    assert proxy.reset() == 2  # ours and the one behind
    with pytest.raises((ConnectionError, asyncio.IncompleteReadError)):
        await said_back(reader, writer)
    writer.close()


async def test_refuses_and_comes_back_at_the_same_port(proxy):
    await proxy.refuse()
    with pytest.raises(OSError):
        await connect(proxy)
    await proxy.accept()
    reader, writer = await connect(proxy)
    assert await said_back(reader, writer) == b"hello"
    writer.close()
