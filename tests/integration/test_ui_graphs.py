"""Graphs in ComfyUI's UI format go the same way as all others: submitted, converted, run."""

import pytest

from atelier.workflows.convert import ConversionFailed
from atelier.workflows.formats import ConversionUnavailable

GRAPH = {
    "nodes": [
        {"id": 1, "type": "EmptyImage", "widgets_values": [40, 24, 1, 255], "inputs": [],
         "outputs": [{"name": "IMAGE", "type": "IMAGE", "links": [1]}]},
        {"id": 2, "type": "Reroute", "inputs": [{"name": "", "type": "*", "link": 1}],
         "outputs": [{"name": "", "type": "IMAGE", "links": [2]}]},
        {"id": 3, "type": "SaveImage", "title": "Kept", "widgets_values": ["ui/{a|b}"],
         "inputs": [{"name": "images", "type": "IMAGE", "link": 2}]},
        {"id": 4, "type": "MarkdownNote", "widgets_values": ["not for the queue"]},
    ],
    "links": [[1, 1, 0, 2, 0, "IMAGE"], [2, 2, 0, 3, 0, "IMAGE"]],
    "version": 0.4,
}  # fmt: skip
CONVERTED = {
    "1": {
        "class_type": "EmptyImage",
        "inputs": {"width": 40, "height": 24, "batch_size": 1, "color": 255},
        "_meta": {"title": "EmptyImage"},
    },
    "3": {
        "class_type": "SaveImage",
        "inputs": {"filename_prefix": "ui/{a|b}", "images": ["1", 0]},
        "_meta": {"title": "Kept"},
    },
}


async def test_ui_graph_is_converted_and_run(service):
    async with service.worker():
        [job] = await service.succeeded(await service.submit(GRAPH))
    assert job.graph == CONVERTED


async def test_its_places_are_those_of_the_api_graph(service):
    async with service.worker():
        [job] = await service.succeeded(await service.submit(GRAPH, {"1.width": 16}))
    assert job.inputs["1.width"] == 16


@pytest.mark.parametrize(
    "wrapped",
    [
        {"workflow": GRAPH},
        {"prompt": CONVERTED, "workflow": {"nodes": []}},
        {"prompt": CONVERTED, "client_id": "somebody"},
        {"output": CONVERTED, "workflow": GRAPH},
    ],
)
async def test_graphs_come_wrapped_as_comfyui_wraps_them(service, wrapped):
    view = await service.generations.get(await service.submit(wrapped))
    assert view.job.graph == CONVERTED


async def test_all_missing_nodes_are_told_at_once(service):
    strange = [{**node, "type": f"{node['type']}X"} for node in GRAPH["nodes"][::2]]
    with pytest.raises(ConversionFailed) as caught:
        await service.submit({**GRAPH, "nodes": strange})
    errors = caught.value.data["node_errors"]
    assert [(one["node"], one["class_type"]) for one in errors] == [
        ("1", "EmptyImageX"),
        ("3", "SaveImageX"),
    ]
    assert errors[0]["allowed"][0] == "EmptyImage"


async def test_without_an_instance_it_has_to_wait(new_service):
    service = await new_service("http://127.0.0.1:9", wait=False)
    with pytest.raises(ConversionUnavailable) as caught:
        await service.submit(GRAPH)
    assert caught.value.retryable
