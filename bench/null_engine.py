"""A server that speaks ComfyUI's protocol and does no work, but counts what it is asked for.

``python -m bench.null_engine --port 8188 --log FILE`` is one as a process. A graph runs as long as
its ``NullWork`` nodes say, plus the switch cost where its checkpoint isn't the one loaded last.
Every event goes to the log as one JSON line before it has an effect, so that what a killed engine
did is known: {at (epoch s), event, prompt, mark, ...}; ``mark`` is the first NullWork's.
"""

import argparse
import asyncio
import contextlib
import io
import itertools
import time
from collections import Counter, deque
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

import orjson
from aiohttp import WSMsgType, web
from PIL import Image

from bench.null_nodes import OBJECT_INFO

STEP_SECONDS = 0.01  # how often a running prompt looks whether it is interrupted


def _picture() -> bytes:
    out = io.BytesIO()
    Image.new("RGB", (8, 8), (90, 120, 150)).save(out, "PNG")
    return out.getvalue()


PICTURE = _picture()


@dataclass(slots=True)
class Prompt:
    id: str
    graph: Mapping[str, Any]
    client: str
    number: int
    extra: Mapping[str, Any] = field(default_factory=dict)

    @property
    def entry(self) -> list[Any]:
        return [self.number, self.id, self.graph, self.extra, []]

    def inputs_of(self, class_type: str, name: str) -> list[Any]:
        nodes = self.graph.values()
        return [n["inputs"].get(name) for n in nodes if n["class_type"] == class_type]

    @property
    def mark(self) -> str | None:
        return next(iter(self.inputs_of("NullWork", "mark")), None)


class NullEngine:
    """One engine. ``run_seconds`` is added to every prompt, ``switch_seconds`` to those that
    need another checkpoint than the one before. ``log`` None: nothing is written.

    ``received``, ``started`` and ``interrupted`` count by prompt id; ``stray`` are interrupts that
    named a prompt and found another at work.
    """

    def __init__(
        self,
        *,
        run_seconds: float = 0.0,
        switch_seconds: float = 0.0,
        step_seconds: float = STEP_SECONDS,
        log: Path | None = None,
        keep_history: bool = False,
    ) -> None:
        self._run_seconds = run_seconds
        self._switch_seconds = switch_seconds
        self._step_seconds = step_seconds
        self._log_path = log
        self._log: IO[bytes] | None = None
        self.received: Counter[str] = Counter()
        self.started: Counter[str] = Counter()
        self.interrupted: Counter[str] = Counter()
        self.stray = 0
        self.switches = 0
        self.loaded: str | None = None
        self.running: Prompt | None = None
        self.pending: deque[Prompt] = deque()
        self.history: dict[str, dict[str, Any]] = {}
        if keep_history and log is not None and log.exists():
            self._recall(log)
        self._numbers = itertools.count(1)
        self._work = asyncio.Event()
        self._interrupt = asyncio.Event()
        self._sockets: dict[str, web.WebSocketResponse] = {}

    # -- the work ------------------------------------------------------------------------------

    async def run(self) -> None:
        """Run prompts one after another until cancelled."""
        while True:
            while self.pending:
                self.running = prompt = self.pending.popleft()
                ended = await self._execute(prompt)
                self.history[prompt.id] = ended
                while len(self.history) > 10_000:
                    del self.history[next(iter(self.history))]
                self.running = None
                await self._tell_remaining()
            self._work.clear()
            await self._work.wait()

    async def _execute(self, prompt: Prompt) -> dict[str, Any]:
        self._interrupt.clear()
        self.started[prompt.id] += 1
        self.note("started", prompt)
        at = {"prompt_id": prompt.id}
        await self._tell(prompt, "execution_start", {**at, "timestamp": _now_ms()})
        node = next(iter(prompt.graph))
        await self._tell(prompt, "executing", {**at, "node": node, "display_node": node})
        if not await self._pass(self._seconds_of(prompt)):
            self.interrupted[prompt.id] += 1
            self.note("interrupted", prompt)
            data = {**at, "node_id": node, "node_type": "NullWork", "executed": []}
            await self._tell(prompt, "execution_interrupted", data)
            return _ended(prompt, {}, "error", ("execution_interrupted", data))
        outputs = {}
        for id, one in prompt.graph.items():
            if one["class_type"] == "SaveImage":
                name = {"filename": f"{prompt.id}_{id}.png", "subfolder": "", "type": "output"}
                outputs[id] = {"images": [name]}
        self.note("ended", prompt, outputs=outputs)
        for id, output in outputs.items():
            await self._tell(prompt, "progress", {**at, "node": id, "value": 1, "max": 1})
            await self._tell(prompt, "executed", {**at, "node": id, "output": output})
        data = {**at, "timestamp": _now_ms()}
        # Known by its history before anybody is told, as whoever is told asks for it.
        ended = self.history[prompt.id] = _ended(
            prompt, outputs, "success", ("execution_success", data)
        )
        await self._tell(prompt, "execution_success", data)
        await self._tell(prompt, "executing", {**at, "node": None})
        return ended

    def _seconds_of(self, prompt: Prompt) -> float:
        seconds = self._run_seconds
        seconds += sum(int(ms) for ms in prompt.inputs_of("NullWork", "milliseconds")) / 1000
        for name in prompt.inputs_of("CheckpointLoaderSimple", "ckpt_name"):
            if name != self.loaded:
                self.loaded = name
                self.switches += 1
                seconds += self._switch_seconds
        return seconds

    async def _pass(self, seconds: float) -> bool:
        """Let the time go by; False when an interrupt ended it."""
        if seconds <= 0:
            return True
        ends = time.monotonic() + seconds
        while (left := ends - time.monotonic()) > 0:
            # In steps, as a sampler looks: an interrupt isn't obeyed at once.
            pause = min(left, self._step_seconds) if self._interrupt.is_set() else left
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._interrupt.wait(), pause)
            if self._interrupt.is_set():
                await asyncio.sleep(min(left, self._step_seconds))
                return False
        return True

    def note(self, event: str, prompt: Prompt, **more: Any) -> None:
        if self._log is not None:
            line = {
                "at": time.time(),
                "event": event,
                "prompt": prompt.id,
                "mark": prompt.mark,
                **more,
            }
            self._log.write(orjson.dumps(line) + b"\n")

    def _recall(self, log: Path) -> None:
        graph: dict[str, Any] = {}
        for line in log.read_bytes().splitlines():
            said = orjson.loads(line)
            if said["event"] == "ended":
                prompt = Prompt(said["prompt"], graph, "", 0)
                self.history[prompt.id] = _ended(prompt, said["outputs"], "success")

    # -- the protocol --------------------------------------------------------------------------

    def app(self) -> web.Application:
        app = web.Application(client_max_size=1 << 28)
        app.add_routes(
            [
                web.post("/prompt", self._prompt),
                web.get("/queue", self._queue),
                web.post("/queue", self._edit_queue),
                web.get("/history/{id}", self._history),
                web.post("/interrupt", self._interrupt_prompt),
                web.get("/system_stats", self._system_stats),
                web.get("/object_info", _object_info),
                web.post("/upload/image", _upload),
                web.get("/view", _view),
                web.post("/free", self._free),
                web.get("/ws", self._socket),
            ]
        )
        app.on_startup.append(self._begin)
        app.on_shutdown.append(self._end)
        return app

    async def _begin(self, app: web.Application) -> None:
        if self._log_path is not None:
            # Unbuffered: what is written stays when we are killed.
            self._log = self._log_path.open("ab", buffering=0)
        self._task = asyncio.create_task(self.run(), name="null engine")

    async def _end(self, app: web.Application) -> None:
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)
        for socket in list(self._sockets.values()):
            await socket.close()
        if self._log is not None:
            self._log.close()

    async def _prompt(self, request: web.Request) -> web.Response:
        body = orjson.loads(await request.read())
        prompt = Prompt(
            str(body["prompt_id"]),
            body["prompt"],
            str(body.get("client_id", "")),
            next(self._numbers),
            body.get("extra_data") or {},
        )
        self.received[prompt.id] += 1
        self.note("received", prompt)
        self.pending.append(prompt)
        self._work.set()
        return _json({"prompt_id": prompt.id, "number": prompt.number, "node_errors": {}})

    async def _queue(self, request: web.Request) -> web.Response:
        running = [self.running.entry] if self.running is not None else []
        pending = [prompt.entry for prompt in self.pending]
        return _json({"queue_running": running, "queue_pending": pending})

    async def _edit_queue(self, request: web.Request) -> web.Response:
        gone = set(orjson.loads(await request.read()).get("delete", ()))
        for prompt in [one for one in self.pending if one.id in gone]:
            self.pending.remove(prompt)
            self.note("deleted", prompt)
        return web.Response()

    async def _history(self, request: web.Request) -> web.Response:
        id = request.match_info["id"]
        return _json({id: self.history[id]} if id in self.history else {})

    async def _interrupt_prompt(self, request: web.Request) -> web.Response:
        body = await request.read()
        wanted = orjson.loads(body).get("prompt_id") if body else None
        if self.running is not None:
            if wanted in (None, self.running.id):
                self.note("interrupt", self.running, targeted=wanted is not None)
                self._interrupt.set()
            else:
                self.stray += 1
                self.note("stray", self.running, wanted=wanted)
        return web.Response()

    async def _system_stats(self, request: web.Request) -> web.Response:
        device = {"name": "null", "type": "cpu", "index": None, "vram_total": 1, "vram_free": 1}
        system = {"os": "posix", "comfyui_version": "0.3.64", "argv": [], "python_version": "3"}
        return _json({"system": system, "devices": [device]})

    async def _free(self, request: web.Request) -> web.Response:
        self.loaded = None
        return web.Response()

    async def _socket(self, request: web.Request) -> web.StreamResponse:
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        client = request.query.get("clientId", "")
        self._sockets[client] = socket
        try:
            await socket.send_str(_text("status", {**self._remaining(), "sid": client}))
            async for frame in socket:
                if frame.type is WSMsgType.ERROR:
                    break
        finally:
            if self._sockets.get(client) is socket:
                del self._sockets[client]
        return socket

    def _remaining(self) -> dict[str, Any]:
        count = len(self.pending) + (self.running is not None)
        return {"status": {"exec_info": {"queue_remaining": count}}}

    async def _tell_remaining(self) -> None:
        text = _text("status", self._remaining())
        for socket in list(self._sockets.values()):
            await _send(socket, text)

    async def _tell(self, prompt: Prompt, kind: str, data: Mapping[str, Any]) -> None:
        if (socket := self._sockets.get(prompt.client)) is not None:
            await _send(socket, _text(kind, data))


async def _send(socket: web.WebSocketResponse, text: str) -> None:
    with contextlib.suppress(ConnectionError, RuntimeError):
        await socket.send_str(text)


def _ended(
    prompt: Prompt, outputs: Mapping[str, Any], status: str, *messages: tuple[str, Any]
) -> dict[str, Any]:
    said = {"status_str": status, "completed": status == "success", "messages": messages}
    return {"prompt": prompt.entry, "outputs": outputs, "status": said, "meta": {}}


def _now_ms() -> int:
    return time.time_ns() // 1_000_000


def _text(kind: str, data: Mapping[str, Any]) -> str:
    return orjson.dumps({"type": kind, "data": data}).decode()


def _json(body: Any) -> web.Response:
    return web.Response(body=orjson.dumps(body), content_type="application/json")


async def _object_info(request: web.Request) -> web.Response:
    return _json(OBJECT_INFO)


async def _upload(request: web.Request) -> web.Response:
    form = await request.post()
    name = getattr(form["image"], "filename", "picture.png")
    return _json({"name": name, "subfolder": form.get("subfolder", ""), "type": "input"})


async def _view(request: web.Request) -> web.Response:
    return web.Response(body=PICTURE, content_type="image/png")


@asynccontextmanager
async def served(engine: NullEngine, port: int = 0) -> AsyncIterator[str]:
    """``engine`` on 127.0.0.1; its URL."""
    runner = web.AppRunner(engine.app(), access_log=None, shutdown_timeout=0.5)
    await runner.setup()
    try:
        site = web.TCPSite(runner, "127.0.0.1", port, reuse_address=True)
        await site.start()
        yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


async def _serve(ports: list[int], options: argparse.Namespace) -> None:
    async with contextlib.AsyncExitStack() as stack:
        for port in ports:
            engine = NullEngine(
                run_seconds=options.run_ms / 1000,
                switch_seconds=options.switch_ms / 1000,
                log=options.log,
                keep_history=options.keep,
            )
            print(await stack.enter_async_context(served(engine, port)), flush=True)
        await asyncio.Event().wait()


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.null_engine", description=__doc__)
    parser.add_argument("--port", type=int, nargs="+", default=[0], help="one engine on each")
    parser.add_argument("--run-ms", type=float, default=0, help="run time of every prompt")
    parser.add_argument("--switch-ms", type=float, default=0, help="cost of another checkpoint")
    parser.add_argument("--log", type=Path, help="append what happens, a JSON line each")
    parser.add_argument("--keep", action="store_true", help="know the history from the log")
    with contextlib.suppress(KeyboardInterrupt):
        options = parser.parse_args()
        asyncio.run(_serve(options.port, options))


if __name__ == "__main__":
    main()
