"""ComfyUI used directly: the least that a program has to do to get its picture."""

import asyncio
import time
import uuid
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import orjson


class PromptFailed(Exception):
    """ComfyUI refused a prompt, or it didn't end well."""


class Direct:
    """One kept WebSocket, and one HTTP session.

    ``images`` by prompt id are the files that it made, ``ended`` when it ended
    (``time.perf_counter``).
    """

    def __init__(self, url: str, client_id: str, session: aiohttp.ClientSession) -> None:
        self._url = url
        self._client_id = client_id
        self._session = session
        self._waiting: dict[str, asyncio.Future[None]] = {}
        self.images: dict[str, list[Mapping[str, str]]] = {}
        self.ended: dict[str, float] = {}

    async def submit(self, graph: Mapping[str, Any]) -> str:
        """POST a prompt and return its id. Raises PromptFailed."""
        prompt_id = str(uuid.uuid4())
        self._waiting[prompt_id] = asyncio.get_running_loop().create_future()
        body = {"prompt": graph, "client_id": self._client_id, "prompt_id": prompt_id}
        async with self._session.post(f"{self._url}/prompt", data=orjson.dumps(body)) as response:
            answer = await response.read()
        if response.status != 200:
            raise PromptFailed(answer.decode(errors="replace"))
        return prompt_id

    async def wait(self, prompt_id: str) -> None:
        """Return once the prompt has ended. Raises PromptFailed."""
        await self._waiting[prompt_id]
        del self._waiting[prompt_id]

    async def free(self) -> None:
        """Have models and results forgotten before the next prompt."""
        body = orjson.dumps({"unload_models": True, "free_memory": True})
        async with self._session.post(f"{self._url}/free", data=body) as response:
            response.raise_for_status()

    async def view(self, image: Mapping[str, str]) -> bytes:
        async with self._session.get(f"{self._url}/view", params=image) as response:
            response.raise_for_status()
            return await response.read()

    async def listen(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        async for frame in socket:
            if frame.type is aiohttp.WSMsgType.TEXT:
                message = orjson.loads(frame.data)
                self._hear(message["type"], message["data"])

    def _hear(self, kind: str, data: Mapping[str, Any]) -> None:
        prompt_id = data.get("prompt_id", "")
        waiting = self._waiting.get(prompt_id)
        if waiting is None or waiting.done():
            return
        match kind:
            case "executed":
                images = (data.get("output") or {}).get("images", ())
                self.images.setdefault(prompt_id, []).extend(images)
            case "execution_success":
                self.ended[prompt_id] = time.perf_counter()
                waiting.set_result(None)
            case "execution_error" | "execution_interrupted":
                waiting.set_exception(PromptFailed(f"{kind}: {data}"))


@asynccontextmanager
async def connect(url: str) -> AsyncIterator[Direct]:
    client_id = f"bench-{uuid.uuid4().hex[:12]}"
    timeout = aiohttp.ClientTimeout(total=60)
    connector = aiohttp.TCPConnector(limit=32)
    async with aiohttp.ClientSession(timeout=timeout, connector=connector) as session:
        direct = Direct(url, client_id, session)
        async with session.ws_connect(f"{url}/ws", params={"clientId": client_id}) as socket:
            listening = asyncio.create_task(direct.listen(socket))
            try:
                yield direct
            finally:
                listening.cancel()
                await asyncio.gather(listening, return_exceptions=True)
