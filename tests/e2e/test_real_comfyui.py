"""Against a ComfyUI that runs: ATELIER_TEST_COMFYUI_URL, else the first of COMFYUI_URLS.

Uses its first checkpoint, at 64 px.
"""

import asyncio
import io
import random
import uuid
from collections.abc import AsyncIterator
from typing import Any

import pytest
from PIL import Image

from atelier.comfy.client import ComfyClient, Finished, GraphRejected, Watch
from atelier.comfy.protocol import (
    ExecutionCached,
    ExecutionError,
    ExecutionInterrupted,
    Preview,
    Progress,
    files_of,
)

Graph = dict[str, dict[str, Any]]


def node(class_type: str, **inputs: Any) -> dict[str, Any]:
    return {"class_type": class_type, "inputs": inputs}


def new_id() -> str:
    return str(uuid.uuid4())


def color_graph() -> Graph:
    color = random.randrange(1 << 24)
    return {
        "1": node("EmptyImage", width=64, height=64, batch_size=1, color=color),
        "2": node("SaveImage", images=["1", 0], filename_prefix="atelier-test"),
    }


def text_to_image(checkpoint: str, *, steps: int = 4, seed: int | None = None) -> Graph:
    seed = random.randrange(1 << 50) if seed is None else seed
    return {
        "4": node("CheckpointLoaderSimple", ckpt_name=checkpoint),
        "5": node("EmptyLatentImage", width=64, height=64, batch_size=1),
        "6": node("CLIPTextEncode", text="a cat", clip=["4", 1]),
        "7": node("CLIPTextEncode", text="", clip=["4", 1]),
        "3": node(
            "KSampler", seed=seed, steps=steps, cfg=7, sampler_name="euler", scheduler="normal",
            denoise=1, model=["4", 0], positive=["6", 0], negative=["7", 0], latent_image=["5", 0],
        ),
        "8": node("VAEDecode", samples=["3", 0], vae=["4", 2]),
        "9": node("SaveImage", images=["8", 0], filename_prefix="atelier-test"),
    }  # fmt: skip


def image_to_image(checkpoint: str, image: str) -> Graph:
    graph = text_to_image(checkpoint)
    graph["3"]["inputs"]["denoise"] = 0.6
    graph["1"] = node("LoadImage", image=image)
    graph["5"] = node("VAEEncode", pixels=["1", 0], vae=["4", 2])
    return graph


@pytest.fixture
async def client(comfyui_url: str) -> AsyncIterator[ComfyClient]:
    async with ComfyClient(comfyui_url, f"atelier-test-{uuid.uuid4().hex[:8]}") as client:
        await client.wait_connected(10)
        yield client


@pytest.fixture
async def checkpoint(client: ComfyClient) -> str:
    files = (await client.object_info()).model_files("checkpoints")
    if not files:
        pytest.skip("the ComfyUI to check against has no checkpoint")
    return files[0]


async def drain(watch: Watch) -> list[Any]:
    async with asyncio.timeout(120):
        return [event async for event in watch]


async def run(client: ComfyClient, graph: Graph) -> list[Any]:
    prompt_id = new_id()
    async with client.watch(prompt_id) as watch:
        await client.submit(graph, prompt_id=prompt_id)
        return await drain(watch)


async def picture(client: ComfyClient, finished: Finished) -> Image.Image:
    ((_, file),) = (f for output in finished.history_outputs.values() for f in files_of(output))
    viewed = await client.view(file)
    assert viewed.media_type == "image/png"
    return Image.open(io.BytesIO(viewed.data))


async def test_text_to_image_sends_previews_and_a_picture(client, checkpoint):
    *events, finished = await run(client, text_to_image(checkpoint))
    assert isinstance(finished, Finished)
    assert (await picture(client, finished)).size == (64, 64)
    assert [e.value for e in events if isinstance(e, Progress)] == [1, 2, 3, 4]
    assert all(e.node == "3" for e in events if isinstance(e, Preview))


async def test_image_to_image_uses_what_was_uploaded(client, checkpoint):
    data = io.BytesIO()
    Image.new("RGB", (64, 64), (random.randrange(256), 80, 120)).save(data, "PNG")
    name = await client.upload(data.getvalue(), media_type="image/png")
    assert await client.upload(data.getvalue(), media_type="image/png") == name
    *_, finished = await run(client, image_to_image(checkpoint, name))
    assert isinstance(finished, Finished)
    assert (await picture(client, finished)).size == (64, 64)


async def test_cached_run_tells_its_outputs_again(client):
    graph = color_graph()
    *_, first = await run(client, graph)
    *events, second = await run(client, graph)
    assert second.history_outputs == first.history_outputs
    (cached,) = (e for e in events if isinstance(e, ExecutionCached))
    assert set(cached.nodes) == {"1", "2"}


async def test_save_image_websocket_delivers_pictures(client):
    graph = color_graph()
    graph["1"]["inputs"]["batch_size"] = 2
    graph["2"] = node("SaveImageWebsocket", images=["1", 0])
    *_, finished = await run(client, graph)
    assert [name for name, _ in finished.websocket_images] == ["2", "2"]
    for _, preview in finished.websocket_images:
        assert Image.open(io.BytesIO(preview.image)).format == "PNG"
    assert not finished.websocket_images_lost


async def test_file_that_is_no_picture_fails_with_its_error(client):
    name = await client.upload(new_id().encode(), media_type="image/png")
    graph = color_graph()
    graph["1"] = node("LoadImage", image=name)
    *_, error = await run(client, graph)
    assert isinstance(error, ExecutionError)
    assert (error.node_id, error.node_type) == ("1", "LoadImage")
    assert error.exception_type == "PIL.UnidentifiedImageError"


async def test_unknown_node_is_refused(client):
    with pytest.raises(GraphRejected) as caught:
        await client.submit({"1": node("NoSuchNode")}, prompt_id=new_id())
    assert caught.value.error["type"] == "invalid_prompt"


async def test_cancel_reaches_running_and_waiting_prompts_but_no_neighbour(client, checkpoint):
    ids = running, neighbour, waiting = new_id(), new_id(), new_id()
    async with (
        client.watch(running) as first,
        client.watch(neighbour) as second,
        client.watch(waiting) as third,
    ):
        await client.submit(text_to_image(checkpoint, steps=200), prompt_id=running)
        await client.submit(text_to_image(checkpoint), prompt_id=neighbour)
        await client.submit(text_to_image(checkpoint), prompt_id=waiting)
        async with asyncio.timeout(120):
            async for event in first:
                if isinstance(event, Progress):
                    break
        assert [await client.find(prompt_id) for prompt_id in ids] == [
            "running", "pending", "pending",
        ]  # fmt: skip
        assert await client.cancel(waiting) == "deleted"
        assert await client.cancel(running) == "interrupted"
        endings = [(await drain(watch))[-1] for watch in (first, second, third)]
    assert isinstance(endings[0], ExecutionInterrupted)
    assert isinstance(endings[1], Finished)
    assert isinstance(endings[2], ExecutionInterrupted)
    # The neighbour's success is told a moment before ComfyUI takes it from the queue.
    assert [await client.find(prompt_id) for prompt_id in (running, waiting)] == [
        "ended", "absent",
    ]  # fmt: skip
    history = await client.history(running)
    assert history is not None
    assert history.status == "interrupted"


async def test_another_client_attaches_to_what_runs(client, checkpoint):
    prompt_id = new_id()
    await client.submit(text_to_image(checkpoint, steps=15), prompt_id=prompt_id)
    async with ComfyClient(client.url, f"atelier-test-{uuid.uuid4().hex[:8]}") as other:
        async with other.watch(prompt_id, attach=True) as watch:
            *_, finished = await drain(watch)
        assert isinstance(finished, Finished)
        assert (await picture(other, finished)).size == (64, 64)


async def test_many_small_prompts_at_once_all_finish(client):
    results = await asyncio.gather(*(run(client, color_graph()) for _ in range(30)))
    assert all(isinstance(events[-1], Finished) for events in results)
