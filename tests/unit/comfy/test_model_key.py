"""Which models a graph loads."""

import json
from pathlib import Path

import pytest

from atelier.comfy.model_key import models_of
from atelier.comfy.object_info import ObjectInfo
from atelier.pool.packing import pack, unpack

GOLDEN = Path(__file__).parents[2] / "golden"


def node(class_type, **inputs):
    return {"class_type": class_type, "inputs": inputs}


@pytest.mark.parametrize(
    ("nodes", "key", "loaders"),
    [
        ([node("EmptyImage", width=8)], None, set()),
        ([node("CheckpointLoaderSimple", ckpt_name="a.safetensors")], "a.safetensors", {"0"}),
        # what comes quickly beside a checkpoint doesn't count
        (
            [
                node("LoraLoader", lora_name="x.safetensors", model=["1", 0]),
                node("CheckpointLoaderSimple", ckpt_name="a.safetensors"),
                node("VAELoader", vae_name="v.safetensors"),
                node("ControlNetLoader", control_net_name="c.safetensors"),
            ],
            "a.safetensors",
            {"1"},
        ),
        # the order in the graph doesn't matter, a file twice is one
        (
            [
                node("UNETLoader", unet_name="low.safetensors"),
                node("UNETLoader", unet_name="high.safetensors"),
                node("UNETLoader", unet_name="high.safetensors"),
            ],
            "high.safetensors+low.safetensors",
            {"0", "1", "2"},
        ),
        # a custom node's loader, which no table knows
        ([node("UnetLoaderGGUF", unet_name="flux.gguf")], "flux.gguf", {"0"}),
        ([node("UpscaleModelLoader", model_name="4x.pth")], "4x.pth", {"0"}),
        ([node("BiRefNetLoader", model="general.pth"), node("X")], "general.pth", {"0"}),
        ([node("VAELoader", vae_name="v.safetensors")], "v.safetensors", {"0"}),
        (["odd", {"inputs": 3}, None], None, set()),
        ([node("Text", text="see a.safetensors\nfor more.ckpt")], None, set()),
    ],
)
def test_key_names_what_takes_long_to_load(nodes, key, loaders):
    found = models_of({str(number): one for number, one in enumerate(nodes)})
    assert (found.key, found.loaders) == (key, loaders)


def test_long_keys_that_differ_at_the_end_stay_different():
    def key(last):
        files = [f"{'x' * 60}{n}.safetensors" for n in (*range(6), last)]
        graph = {f: node("UNETLoader", unet_name=f) for f in files}
        return models_of(graph).key

    assert len(key(8)) <= 255
    assert key(8) != key(9)


def test_packed_object_info_comes_back_the_same():
    body = json.loads((GOLDEN / "object_info.json").read_bytes())
    info = ObjectInfo.parse(body)
    packed = pack(info)
    assert unpack(packed) == info
    assert unpack(packed).revision == info.revision
    assert len(packed) < len(json.dumps(body)) / 3
