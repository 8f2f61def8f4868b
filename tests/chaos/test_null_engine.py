"""Our client can't tell the null engine from a ComfyUI, and the engine counts what it does."""

import uuid
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import orjson
import pytest
from bench.null_engine import NullEngine, served

from atelier.comfy.client import ComfyClient, Finished
from atelier.comfy.protocol import ExecutionInterrupted


def graph(milliseconds: int = 0, **nodes: Any) -> dict[str, Any]:
    work = {"mark": "m1", "milliseconds": milliseconds}
    return {
        "1": {"class_type": "NullWork", "inputs": work},
        "2": {"class_type": "SaveImage", "inputs": {"images": ["1", 0], "filename_prefix": "x"}},
        **nodes,
    }


def loading(name: str) -> dict[str, Any]:
    return {"3": {"class_type": "CheckpointLoaderSimple", "inputs": {"ckpt_name": name}}}


@pytest.fixture
async def engine(tmp_path: Path) -> AsyncIterator[tuple[NullEngine, ComfyClient]]:
    engine = NullEngine(log=tmp_path / "log.jsonl", switch_seconds=0.001)
    async with served(engine) as url, ComfyClient(url, "test") as client:
        await client.wait_connected(5)
        yield engine, client


async def last_word(client: ComfyClient, graph: dict[str, Any], id: str, cancel: bool = False):
    word: Any = None
    async with client.watch(id) as watch:
        await client.submit(graph, prompt_id=id)
        if cancel:
            assert await client.cancel(id) == "interrupted"
        async for message in watch:
            word = message
    return word


async def test_a_prompt_runs_and_leaves_a_file(engine: tuple[NullEngine, ComfyClient]) -> None:
    null, client = engine
    id = str(uuid.uuid4())
    word = await last_word(client, graph(), id)
    assert isinstance(word, Finished)
    assert (null.received[id], null.started[id]) == (1, 1)
    history = await client.history(id)
    assert history is not None
    assert history.outputs["2"]["images"][0]["filename"].startswith(id)


async def test_the_same_prompt_twice_runs_twice(engine: tuple[NullEngine, ComfyClient]) -> None:
    null, client = engine
    id = str(uuid.uuid4())
    for _ in range(2):
        await last_word(client, graph(), id)
    assert (null.received[id], null.started[id]) == (2, 2)


async def test_an_interrupt_stops_the_prompt_it_names(
    engine: tuple[NullEngine, ComfyClient],
) -> None:
    null, client = engine
    id = str(uuid.uuid4())
    word = await last_word(client, graph(60_000), id, cancel=True)
    assert isinstance(word, ExecutionInterrupted)
    assert null.interrupted[id] == 1
    assert null.stray == 0


async def test_another_checkpoint_is_a_switch(engine: tuple[NullEngine, ComfyClient]) -> None:
    null, client = engine
    for name in ("tiny", "tiny", "tiny2"):
        await last_word(client, graph(**loading(f"{name}.safetensors")), str(uuid.uuid4()))
    assert null.switches == 2


async def test_it_can_know_its_history_from_the_log(
    engine: tuple[NullEngine, ComfyClient], tmp_path: Path
) -> None:
    _, client = engine
    id = str(uuid.uuid4())
    await last_word(client, graph(), id)
    log = tmp_path / "log.jsonl"
    events = [orjson.loads(line)["event"] for line in log.read_bytes().splitlines()]
    assert events == ["received", "started", "ended"]
    assert id in NullEngine(log=log, keep_history=True).history
    assert id not in NullEngine(log=log).history
