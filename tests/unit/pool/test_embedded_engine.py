"""The embedded engine as a process: started, adopted, kept, ended, by whoever owns it."""

import asyncio
import json
import os
import signal
import subprocess
import sys
import time

import aiohttp
import pytest

from atelier.errors import ConfigurationError
from atelier.pool.supervisor import embedded
from atelier.pool.supervisor.embedded import EmbeddedEngine
from atelier.pool.supervisor.probe import comfyui_answers


@pytest.fixture(autouse=True)
def short_lingering(monkeypatch):
    monkeypatch.setattr(embedded, "LINGER_SECONDS", 20.0)


async def becomes(url, answering, seconds=20):
    deadline = time.monotonic() + seconds
    while await comfyui_answers(url, 0.5) is not answering:
        assert time.monotonic() < deadline, f"answering: {not answering}"
        await asyncio.sleep(0.05)


def announced_pid(folder):
    return json.loads((folder / "engine.json").read_bytes())["pid"]


async def test_engine_is_shared_and_ends_with_its_owner(tmp_path):
    """Who only uses it leaves it running; a new owner starts it again where it was."""
    async with EmbeddedEngine(tmp_path) as owner:
        assert await comfyui_answers(owner.url)
        async with EmbeddedEngine(tmp_path) as guest:
            assert guest.url == owner.url
        assert await comfyui_answers(owner.url), "the guest must not have ended it"
        guest = EmbeddedEngine(tmp_path)
        await guest.__aenter__()
    try:
        # The owner has gone, and the engine with it: the guest takes over.
        await becomes(guest.url, True)
    finally:
        await guest.__aexit__(None, None, None)
    assert not await comfyui_answers(guest.url)
    assert not (tmp_path / "engine.json").exists()


async def test_engine_of_a_killed_owner_is_adopted_and_ended_by_the_next(tmp_path):
    script = (
        "import asyncio, pathlib, sys\n"
        "from atelier.pool.supervisor.embedded import EmbeddedEngine\n"
        "async def main():\n"
        "    async with EmbeddedEngine(pathlib.Path(sys.argv[1])) as engine:\n"
        "        print(engine.url, flush=True)\n"
        "        await asyncio.sleep(60)\n"
        "asyncio.run(main())\n"
    )
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", script, str(tmp_path), stdout=subprocess.PIPE
    )
    url = (await process.stdout.readline()).decode().strip()
    process.kill()
    await process.wait()
    assert await comfyui_answers(url)
    pid = announced_pid(tmp_path)
    async with EmbeddedEngine(tmp_path) as engine:
        assert engine.url == url
        assert announced_pid(tmp_path) == pid
        async with aiohttp.ClientSession() as session, session.get(f"{url}/queue") as answer:
            assert answer.status == 200
        # One that isn't our child is missed as well.
        os.kill(pid, signal.SIGKILL)
        await becomes(url, False)
        await becomes(url, True)
        assert announced_pid(tmp_path) != pid
    assert not await comfyui_answers(url)


async def test_engine_that_can_not_start_is_a_sentence(tmp_path, monkeypatch):
    (tmp_path / "input").write_text("a file where its folder should be")
    with pytest.raises(ConfigurationError) as caught:
        async with EmbeddedEngine(tmp_path):
            pass
    assert "atelier engine" in caught.value.hint


async def test_something_else_at_the_address_is_no_comfyui(tmp_path):
    async def answer(reader, writer):
        await reader.read(100)
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n[]")
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        assert not await comfyui_answers(f"http://127.0.0.1:{port}")
    assert not await comfyui_answers(f"http://127.0.0.1:{port}")
