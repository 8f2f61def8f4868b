import asyncio
import base64
import json
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp.test_utils import TestServer

from atelier.engine.config import EngineConfig
from atelier.engine.server import create_app

GOLDEN = Path(__file__).parents[2] / "golden"
PATIENCE_SECONDS = 20


@dataclass
class Engine:
    """An engine on a free port of this machine, and a session to talk to it."""

    url: str
    root: Path
    http: aiohttp.ClientSession

    async def get(self, path: str, **query: Any) -> tuple[int, Any]:
        async with self.http.get(self.url + path, params=query) as response:
            return response.status, await read(response)

    async def post(self, path: str, body: Any = None, **options: Any) -> tuple[int, Any]:
        async with self.http.post(self.url + path, json=body, **options) as response:
            return response.status, await read(response)

    async def upload(self, data: bytes, filename: str, **fields: str) -> tuple[int, Any]:
        form = aiohttp.FormData(fields, quote_fields=False)
        form.add_field("image", data, filename=filename)
        async with self.http.post(f"{self.url}/upload/image", data=form) as response:
            return response.status, await read(response)

    async def submit(self, graph: Any, client_id: str | None = None, **fields: Any) -> str:
        who = {} if client_id is None else {"client_id": client_id}
        status, answer = await self.post("/prompt", {"prompt": graph, **who, **fields})
        assert status == 200, answer
        return answer["prompt_id"]

    async def connect(self, client_id: str, *first_messages: Any) -> "Listener":
        socket = await self.http.ws_connect(f"{self.url}/ws?clientId={client_id}")
        for message in first_messages:
            await socket.send_json(message)
        return Listener(socket)

    async def run(self, graph: Any, client_id: str = "test", **fields: Any) -> dict[str, Any]:
        """Run ``graph`` and return its history entry."""
        listener = await self.connect(client_id)
        prompt_id = await self.submit(graph, client_id, **fields)
        await listener.until_ended(prompt_id)
        await listener.close()
        _, history = await self.get(f"/history/{prompt_id}")
        return history[prompt_id]


@dataclass
class Listener:
    """A WebSocket client; ``events`` are dicts of text frames and bytes of binary ones."""

    socket: aiohttp.ClientWebSocketResponse
    events: list[Any] = field(default_factory=list)

    async def next(self) -> Any:
        message = await self.socket.receive(PATIENCE_SECONDS)
        assert message.type in (aiohttp.WSMsgType.TEXT, aiohttp.WSMsgType.BINARY), message
        is_text = message.type is aiohttp.WSMsgType.TEXT
        self.events.append(json.loads(message.data) if is_text else message.data)
        return self.events[-1]

    async def until(self, wanted: Callable[[Any], bool]) -> Any:
        while not wanted(event := await self.next()):
            pass
        return event

    async def until_type(self, kind: str) -> Any:
        return await self.until(lambda event: isinstance(event, dict) and event["type"] == kind)

    async def until_ended(self, prompt_id: str) -> None:
        data = {"node": None, "prompt_id": prompt_id}
        await self.until(lambda event: event == {"type": "executing", "data": data})

    async def silence(self) -> None:
        """Assert that nothing more comes for a moment."""
        with pytest.raises(asyncio.TimeoutError):
            await self.socket.receive(0.1)

    async def close(self) -> None:
        await self.socket.close()


async def read(response: aiohttp.ClientResponse) -> Any:
    data = await response.read()
    return json.loads(data) if response.content_type == "application/json" else data


@pytest.fixture
def engine_options() -> dict[str, Any]:
    return {}


@pytest.fixture
async def engine(tmp_path: Path, engine_options: dict[str, Any]) -> AsyncIterator[Engine]:
    root = tmp_path / "engine"
    config = EngineConfig(root=root, **engine_options)
    async with TestServer(create_app(config)) as server, aiohttp.ClientSession() as http:
        yield Engine(str(server.make_url("")).rstrip("/"), root, http)


@pytest.fixture(scope="session")
def golden() -> Callable[[str], list[dict[str, Any]]]:
    """Return a session recorded from ComfyUI; ``binary`` is decoded to bytes."""

    def load(name: str) -> list[dict[str, Any]]:
        events = [json.loads(line) for line in (GOLDEN / f"{name}.jsonl").read_text().splitlines()]
        for event in events:
            if "binary" in event:
                event["binary"] = base64.b64decode(event["binary"])
        return events

    return load


@pytest.fixture(scope="session")
def golden_answers() -> Callable[[str], Any]:
    return lambda name: json.loads((GOLDEN / f"{name}.json").read_text())
