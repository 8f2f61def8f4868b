"""``python -m bench.null_engine --port P``: speaks ComfyUI's protocol and draws nothing.

A prompt takes as long as it is told to, so that what is measured beside it is not the drawing.
What it is asked and what it does goes into a journal that survives SIGKILL: see ``Journal``.
"""

import argparse
import asyncio
import itertools
import os
import time
from collections import OrderedDict, deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import orjson
from aiohttp import web

from atelier.comfy.protocol import (
    Executed,
    Executing,
    ExecutionCached,
    ExecutionInterrupted,
    ExecutionStart,
    ExecutionSuccess,
    Message,
    Progress,
)
from atelier.engine.clients import Clients
from bench.null_nodes import LOADER, mark, node_infos, output_nodes, picture

HISTORY = 20_000


@dataclass(frozen=True, slots=True)
class Costs:
    """Milliseconds: of each prompt, and more where it loads another model than the last."""

    run_ms: float
    switch_ms: float = 0.0


class Journal:
    """A line of JSON for each thing that happens: {at, what, ...}; ``at`` in seconds of the day.

    ``what``: up {pid}, received {prompt, mark}, began {prompt}, ended {prompt, how},
    deleted {prompt}, interrupt {asked, hit}: which prompt was named, if any, and which was stopped.
    Each line is one write to the end of the file: nothing of it is lost when the process is.
    """

    def __init__(self, path: Path | None) -> None:
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT
        self._file = None if path is None else os.open(path, flags, 0o644)
        self.note("up", pid=os.getpid())

    def note(self, what: str, **more: Any) -> None:
        if self._file is not None:
            os.write(self._file, orjson.dumps({"at": time.time(), "what": what, **more}) + b"\n")


@dataclass(slots=True)
class Prompt:
    number: float
    id: str
    graph: Mapping[str, Any]
    client: str
    interrupted: asyncio.Event = field(default_factory=asyncio.Event)

    def told(self) -> list[Any]:
        return [
            self.number,
            self.id,
            self.graph,
            {"client_id": self.client},
            output_nodes(self.graph),
        ]


class NullEngine:
    """One engine: its queue, the prompt that runs, and what ran."""

    def __init__(self, costs: Costs, models: Sequence[str], journal: Journal) -> None:
        self._costs = costs
        self._infos = node_infos(models)
        self._journal = journal
        self._clients = Clients(self._remaining)
        self._numbers = itertools.count()
        self._waiting: deque[Prompt] = deque()
        self._running: Prompt | None = None
        self._history: OrderedDict[str, dict[str, Any]] = OrderedDict()
        self._model: str | None = None
        self._filled = asyncio.Event()

    def application(self) -> web.Application:
        app = web.Application(client_max_size=100 << 20)
        for prefix in ("", "/api"):
            app.add_routes(self._routes(prefix))

        async def alive(_: web.Application) -> Any:
            self._clients.attach(asyncio.get_running_loop())
            working = asyncio.create_task(self._work())
            yield
            working.cancel()
            await self._clients.close()

        app.cleanup_ctx.append(alive)
        return app

    def _routes(self, prefix: str) -> list[web.RouteDef]:
        return [
            web.get(f"{prefix}/ws", self._clients.serve),
            web.post(f"{prefix}/prompt", self._submit),
            web.get(f"{prefix}/queue", self._tell_queue),
            web.post(f"{prefix}/queue", self._change_queue),
            web.post(f"{prefix}/interrupt", self._interrupt),
            web.post(f"{prefix}/free", self._free),
            web.get(f"{prefix}/history/{{id}}", self._tell_history),
            web.get(f"{prefix}/system_stats", self._tell_system),
            web.get(f"{prefix}/object_info", self._tell_nodes),
            web.post(f"{prefix}/upload/image", self._upload),
            web.get(f"{prefix}/view", self._view),
        ]

    # -- what runs -------------------------------------------------------------------------------

    def _remaining(self) -> int:
        return len(self._waiting) + (self._running is not None)

    async def _work(self) -> None:
        while True:
            while not self._waiting:
                self._filled.clear()
                await self._filled.wait()
            prompt = self._running = self._waiting.popleft()
            self._journal.note("began", prompt=prompt.id)
            outputs = await self._run(prompt)
            how = "interrupted" if outputs is None else "success"
            self._journal.note("ended", prompt=prompt.id, how=how)
            self._keep(prompt, outputs)
            self._running = None
            self._clients.broadcast_remaining(self._remaining())

    async def _run(self, prompt: Prompt) -> dict[str, Any] | None:
        """What the prompt made, by node; None where it was interrupted."""

        def tell(message: Message) -> None:
            self._clients.send(prompt.client, message)

        loader, model = _model_of(prompt.graph)
        is_warm = model is None or model == self._model
        cached = (loader,) if loader is not None and is_warm else ()
        tell(ExecutionStart(prompt.id, _now_ms()))
        tell(ExecutionCached(prompt.id, cached, _now_ms()))
        if loader is not None and not is_warm:
            tell(Executing(prompt.id, loader))
            self._model = model
            if await self._takes(prompt, self._costs.switch_ms):
                return self._stopped(prompt, loader, tell)
        outputs = output_nodes(prompt.graph)
        busy = next(iter(prompt.graph), outputs[0])
        tell(Executing(prompt.id, busy))
        for half in (1, 2):
            if await self._takes(prompt, self._costs.run_ms / 2):
                return self._stopped(prompt, busy, tell)
            tell(Progress(prompt.id, busy, half, 2))
        made = {}
        for node in outputs:
            # Files are named after the prompt: whose they are can be told afterwards.
            name = {"filename": f"{prompt.id}_{node}_.png", "subfolder": "", "type": "output"}
            made[node] = {"images": [name]}
            tell(Executed(prompt.id, node, made[node], node))
        tell(ExecutionSuccess(prompt.id, _now_ms()))
        tell(Executing(prompt.id, None))
        return made

    async def _takes(self, prompt: Prompt, milliseconds: float) -> bool:
        """Let the time pass; True where somebody has interrupted it."""
        if milliseconds > 0:
            try:
                async with asyncio.timeout(milliseconds / 1000):
                    await prompt.interrupted.wait()
            except TimeoutError:
                pass
        return prompt.interrupted.is_set()

    def _stopped(self, prompt: Prompt, node: str, tell: Any) -> None:
        tell(ExecutionInterrupted(prompt.id, node, prompt.graph[node]["class_type"], (), _now_ms()))

    def _keep(self, prompt: Prompt, outputs: dict[str, Any] | None) -> None:
        stopped = ["execution_interrupted", {"prompt_id": prompt.id, "node_id": None}]
        stopped[1] |= {"node_type": None, "executed": [], "timestamp": _now_ms()}  # type: ignore[operator]
        ended = ["execution_success", {"prompt_id": prompt.id, "timestamp": _now_ms()}]
        self._history[prompt.id] = {
            "prompt": prompt.told(),
            "outputs": outputs or {},
            "status": {
                "status_str": "error" if outputs is None else "success",
                "completed": outputs is not None,
                "messages": [stopped if outputs is None else ended],
            },
            "meta": {},
        }
        if len(self._history) > HISTORY:
            self._history.popitem(last=False)

    # -- what is asked ---------------------------------------------------------------------------

    async def _submit(self, request: web.Request) -> web.Response:
        body = orjson.loads(await request.read())
        graph, number = body["prompt"], next(self._numbers)
        unknown = [n["class_type"] for n in graph.values() if n["class_type"] not in self._infos]
        if unknown or not output_nodes(graph):
            error = {"type": "invalid_prompt", "message": "Cannot execute", "extra_info": {}}
            return _json({"error": {**error, "details": str(unknown)}, "node_errors": {}}, 400)
        prompt = Prompt(number, body["prompt_id"], graph, body.get("client_id", ""))
        # Before the answer: who dies in between has taken it all the same.
        self._journal.note("received", prompt=prompt.id, mark=mark(graph))
        self._waiting.append(prompt)
        self._filled.set()
        self._clients.broadcast_remaining(self._remaining())
        return _json({"prompt_id": prompt.id, "number": number, "node_errors": {}})

    async def _tell_queue(self, request: web.Request) -> web.Response:
        running = [] if self._running is None else [self._running.told()]
        return _json(
            {"queue_running": running, "queue_pending": [one.told() for one in self._waiting]}
        )

    async def _change_queue(self, request: web.Request) -> web.Response:
        body = orjson.loads(await request.read())
        gone = set(body.get("delete", ()))
        for prompt in [one for one in self._waiting if one.id in gone or body.get("clear")]:
            self._waiting.remove(prompt)
            self._journal.note("deleted", prompt=prompt.id)
        self._clients.broadcast_remaining(self._remaining())
        return web.Response()

    async def _interrupt(self, request: web.Request) -> web.Response:
        raw = await request.read()
        asked = orjson.loads(raw).get("prompt_id") if raw else None
        running = self._running
        hit = running if running is not None and asked in (None, running.id) else None
        self._journal.note("interrupt", asked=asked, hit=None if hit is None else hit.id)
        if hit is not None:
            hit.interrupted.set()
        return web.Response()

    async def _free(self, request: web.Request) -> web.Response:
        if orjson.loads(await request.read()).get("unload_models"):
            self._model = None
        return web.Response()

    async def _tell_history(self, request: web.Request) -> web.Response:
        id = request.match_info["id"]
        return _json({id: self._history[id]} if id in self._history else {})

    async def _tell_system(self, request: web.Request) -> web.Response:
        system = {"os": os.name, "comfyui_version": "0.3.64", "python_version": "3"}
        memory = {"vram_total": 8 << 30, "vram_free": 8 << 30}
        torch = {"torch_vram_total": 8 << 30, "torch_vram_free": 8 << 30}
        device = {"name": "null", "type": "cuda", "index": 0, **memory, **torch}
        return _json({"system": system, "devices": [device]})

    async def _tell_nodes(self, request: web.Request) -> web.Response:
        return _json(self._infos)

    async def _upload(self, request: web.Request) -> web.Response:
        name = ""
        async for part in await request.multipart():
            if getattr(part, "name", None) == "image":
                name = part.filename or ""  # type: ignore[union-attr]
            await part.read()  # type: ignore[union-attr, call-arg]
        return _json({"name": name, "subfolder": "", "type": "input"})

    async def _view(self, request: web.Request) -> web.Response:
        # As ComfyUI's, the files outlive the process: any name is one that was made once.
        return web.Response(body=picture(), content_type="image/png")


def _model_of(graph: Mapping[str, Any]) -> tuple[str | None, str | None]:
    for id, node in graph.items():
        if node["class_type"] == LOADER:
            return id, node["inputs"]["ckpt_name"]
    return None, None


def _now_ms() -> int:
    return time.time_ns() // 1_000_000


def _json(body: Any, status: int = 200) -> web.Response:
    return web.Response(body=orjson.dumps(body), status=status, content_type="application/json")


async def serve(ports: Sequence[int], engine_at: Any) -> None:
    """An engine at each of ``ports``, until cancelled; ``engine_at`` makes one."""
    runners = []
    for port in ports:
        runner = web.AppRunner(engine_at().application(), access_log=None, shutdown_timeout=1)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", port, reuse_address=True).start()
        runners.append(runner)
    try:
        await asyncio.Event().wait()
    finally:
        await asyncio.gather(*(runner.cleanup() for runner in runners))


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.null_engine", description=__doc__)
    parser.add_argument("--port", type=int, action="append", required=True, help="one or several")
    parser.add_argument("--run-ms", type=float, default=200.0, help="what a prompt takes")
    parser.add_argument("--switch-ms", type=float, default=0.0, help="what another model takes")
    parser.add_argument("--models", default="tiny.safetensors,tiny2.safetensors")
    parser.add_argument("--journal", type=Path, help="file that says what happened")
    chosen = parser.parse_args()
    journal = Journal(chosen.journal)
    costs = Costs(chosen.run_ms, chosen.switch_ms)
    models = chosen.models.split(",")
    work = serve(chosen.port, lambda: NullEngine(costs, models, journal))
    try:
        import uvloop
    except ImportError:  # on Windows
        asyncio.run(work)
    else:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(work)


if __name__ == "__main__":
    main()
