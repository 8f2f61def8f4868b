import asyncio
import base64
import json
import uuid
from collections import Counter
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
from aiohttp import WSCloseCode, web
from aiohttp.test_utils import TestServer

from atelier.comfy.client import ComfyClient

GOLDEN = Path(__file__).parents[2] / "golden"

Session = list[dict[str, Any]]


def read_session(name: str) -> Session:
    events = [json.loads(line) for line in (GOLDEN / f"{name}.jsonl").read_text().splitlines()]
    for event in events:
        if "binary" in event:
            event["binary"] = base64.b64decode(event["binary"])
    return events


@pytest.fixture
def golden() -> Callable[[str], Session]:
    """Return a recorded session's events; ``binary`` is decoded to bytes."""
    return read_session


@pytest.fixture(scope="session")
def object_info_json() -> dict[str, Any]:
    return json.loads((GOLDEN / "object_info.json").read_text())


@pytest.fixture(scope="session")
def validation_answers() -> dict[str, Any]:
    return json.loads((GOLDEN / "validation_answers.json").read_text())


class FakeComfyUI:
    """Plays a recorded session to whoever submits a prompt, under the id that was asked for.

    ``hold`` stops the play at the first message of that type until ``go`` is set; ``mute`` swallows
    messages; ``calls`` counts requests by method and path; ``prompts`` keeps what was submitted.
    """

    def __init__(self) -> None:
        self.sockets: dict[str, web.WebSocketResponse] = {}
        self.running: list[str] = []
        self.pending: list[str] = []
        self.history: dict[str, Any] = {}
        self.inputs: dict[str, bytes] = {}
        self.calls: Counter[str] = Counter()
        self.prompts: list[dict[str, Any]] = []
        self.session: str | None = None
        self.hold: str | None = None
        self.held = asyncio.Event()
        self.go = asyncio.Event()
        self.mute = False
        self.reply: tuple[int, Any] | None = None
        self.on_interrupt: Callable[[str | None], None] = lambda prompt_id: None
        self.after_history: Callable[[], None] = lambda: None
        self._tasks: set[asyncio.Task[None]] = set()
        app = web.Application(client_max_size=2**26, middlewares=[self._count])
        app.add_routes(
            [
                web.get("/ws", self._ws),
                web.post("/prompt", self._prompt),
                web.get("/queue", self._queue),
                web.post("/queue", self._delete),
                web.post("/interrupt", self._interrupt),
                web.post("/free", self._ok),
                web.get("/history/{id}", self._history),
                web.get("/view", self._view),
                web.post("/upload/image", self._upload),
                web.get("/object_info", self._object_info),
                web.get("/system_stats", self._stats),
            ]
        )
        self.server = TestServer(app)

    @property
    def url(self) -> str:
        return str(self.server.make_url("")).rstrip("/")

    async def drop_sockets(self) -> None:
        for socket in list(self.sockets.values()):
            await socket.close(code=WSCloseCode.GOING_AWAY)

    async def close(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self.drop_sockets()
        await self.server.close()

    def play(self, client_id: str, prompt_id: str, name: str | None = None) -> None:
        """Start playing the messages of the session's first prompt as those of ``prompt_id``."""
        task = asyncio.create_task(self._play(client_id, prompt_id, name or self.session or ""))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _play(self, client_id: str, prompt_id: str, name: str) -> None:
        events = read_session(name)
        recorded = next(
            e["response"]["body"]["prompt_id"]
            for e in events
            if e["dir"] == "http" and e["request"]["path"] == "/prompt"
        )
        if prompt_id in self.pending:
            self.pending.remove(prompt_id)
        self.running.append(prompt_id)
        for event in events:
            if event["dir"] != "server":
                continue
            frame = event.get("text") or event["binary"]
            text = frame if isinstance(frame, str) else ""
            message = json.loads(text) if text else {"type": "binary", "data": {}}
            if message["type"] in ("status", "feature_flags"):
                continue
            if text and message["data"].get("prompt_id") != recorded:
                continue
            if message["type"] == self.hold:
                self.held.set()
                await self.go.wait()
            if prompt_id not in self.running:
                return
            ended = message["type"] == "executing" and message["data"]["node"] is None
            if ended:
                self.finish(prompt_id, recorded, events)
            await self._send(client_id, frame, recorded, prompt_id)
            if ended:
                return

    def finish(self, prompt_id: str, recorded: str, events: Session) -> None:
        path = f"/history/{recorded}"
        entry = next(
            e["response"]["body"][recorded]
            for e in events
            if e["dir"] == "http" and e["request"]["path"] == path
        )
        self.history[prompt_id] = json.loads(json.dumps(entry).replace(recorded, prompt_id))
        self.running.remove(prompt_id)

    async def _send(
        self, client_id: str, frame: str | bytes, recorded: str, prompt_id: str
    ) -> None:
        socket = self.sockets.get(client_id)
        if socket is None or self.mute:
            return
        if isinstance(frame, str):
            await socket.send_str(frame.replace(recorded, prompt_id))
        else:
            await socket.send_bytes(frame.replace(recorded.encode(), prompt_id.encode()))

    @web.middleware
    async def _count(self, request: web.Request, handler: Any) -> web.StreamResponse:
        self.calls[f"{request.method} /{request.path.split('/')[1]}"] += 1
        return await handler(request)

    async def _ws(self, request: web.Request) -> web.WebSocketResponse:
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        client_id = request.query["clientId"]
        self.sockets[client_id] = socket
        if not self.mute:
            await socket.send_json(
                {
                    "type": "status",
                    "data": {
                        "status": {"exec_info": {"queue_remaining": len(self.running)}},
                        "sid": client_id,
                    },
                }
            )
        try:
            async for _ in socket:
                pass
        finally:
            self.sockets.pop(client_id, None)
        return socket

    async def _prompt(self, request: web.Request) -> web.Response:
        body = await request.json()
        self.prompts.append(body)
        if self.reply is not None:
            return web.json_response(self.reply[1], status=self.reply[0])
        prompt_id = body.get("prompt_id") or str(uuid.uuid4())
        if self.session is None:
            self.pending.append(prompt_id)
        else:
            self.play(body["client_id"], prompt_id)
        return web.json_response({"prompt_id": prompt_id, "number": 1, "node_errors": {}})

    async def _queue(self, request: web.Request) -> web.Response:
        return web.json_response(
            {
                "queue_running": [[1, prompt_id, {}, {}, []] for prompt_id in self.running],
                "queue_pending": [
                    [n, prompt_id, {}, {}, []] for n, prompt_id in enumerate(self.pending)
                ],
            }
        )

    async def _delete(self, request: web.Request) -> web.Response:
        for prompt_id in (await request.json())["delete"]:
            if prompt_id in self.pending:
                self.pending.remove(prompt_id)
        return web.Response()

    async def _interrupt(self, request: web.Request) -> web.Response:
        self.on_interrupt((await request.json()).get("prompt_id"))
        return web.Response()

    async def _ok(self, request: web.Request) -> web.Response:
        return web.Response()

    async def _history(self, request: web.Request) -> web.Response:
        prompt_id = request.match_info["id"]
        known = self.history.get(prompt_id)
        self.after_history()
        return web.json_response({} if known is None else {prompt_id: known})

    async def _view(self, request: web.Request) -> web.Response:
        data = self.inputs.get(request.query["filename"])
        if data is None:
            return web.Response(status=404)
        return web.Response(body=data, content_type="image/png")

    async def _upload(self, request: web.Request) -> web.Response:
        form = await request.post()
        field = form["image"]
        assert isinstance(field, web.FileField)
        # Long enough for a second request to come in between.
        await asyncio.sleep(0.02)
        self.inputs[field.filename] = field.file.read()
        field.file.close()
        return web.json_response({"name": field.filename, "subfolder": "", "type": "input"})

    async def _object_info(self, request: web.Request) -> web.Response:
        return web.Response(
            body=(GOLDEN / "object_info.json").read_bytes(), content_type="application/json"
        )

    async def _stats(self, request: web.Request) -> web.Response:
        answers = json.loads((GOLDEN / "http_answers.json").read_text())
        return web.json_response(answers["/system_stats"]["body"])


@pytest.fixture
async def comfyui() -> AsyncIterator[FakeComfyUI]:
    fake = FakeComfyUI()
    await fake.server.start_server()
    yield fake
    await fake.close()


@pytest.fixture
async def client(comfyui: FakeComfyUI) -> AsyncIterator[ComfyClient]:
    async with ComfyClient(comfyui.url, "tester", ping_seconds=0.5) as client:
        await client.wait_connected(5)
        yield client
