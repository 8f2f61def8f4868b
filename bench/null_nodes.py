"""What the null engine says that it can run: the nodes of a plain text-to-image graph."""

from collections.abc import Mapping
from typing import Any

CHECKPOINTS = ("tiny.safetensors", "tiny2.safetensors")


def _node(outputs: list[str], *, output_node: bool = False, **inputs: Any) -> dict[str, Any]:
    return {
        "input": {"required": inputs},
        "input_order": {"required": list(inputs)},
        "output": outputs,
        "output_name": outputs,
        "output_is_list": [False] * len(outputs),
        "output_node": output_node,
        "category": "null",
    }


_WHOLE = {"default": 64, "min": 1, "max": 16384}
_COLOUR = {"default": 0, "min": 0, "max": 0xFFFFFF}
_SEED = {"default": 0, "min": 0, "max": 2**64 - 1}
OBJECT_INFO: Mapping[str, Any] = {
    "EmptyImage": _node(
        ["IMAGE"],
        width=["INT", _WHOLE],
        height=["INT", _WHOLE],
        batch_size=["INT", {"default": 1, "min": 1, "max": 4096}],
        color=["INT", _COLOUR],
    ),
    "NullWork": _node(
        ["IMAGE"],
        mark=["STRING", {"default": ""}],
        milliseconds=["INT", {"default": 0, "min": 0, "max": 86_400_000}],
    ),
    "SaveImage": _node(
        [], output_node=True, images=["IMAGE"], filename_prefix=["STRING", {"default": "null"}]
    ),
    "CheckpointLoaderSimple": _node(["MODEL", "CLIP", "VAE"], ckpt_name=[list(CHECKPOINTS)]),
    "CLIPTextEncode": _node(["CONDITIONING"], text=["STRING", {}], clip=["CLIP"]),
    "EmptyLatentImage": _node(
        ["LATENT"],
        width=["INT", _WHOLE],
        height=["INT", _WHOLE],
        batch_size=["INT", {"default": 1, "min": 1, "max": 4096}],
    ),
    "KSampler": _node(
        ["LATENT"],
        model=["MODEL"],
        seed=["INT", _SEED],
        steps=["INT", {"default": 20, "min": 1, "max": 10000}],
        cfg=["FLOAT", {"default": 8.0, "min": 0.0, "max": 100.0}],
        sampler_name=[["euler"]],
        scheduler=[["normal"]],
        positive=["CONDITIONING"],
        negative=["CONDITIONING"],
        latent_image=["LATENT"],
        denoise=["FLOAT", {"default": 1.0, "min": 0.0, "max": 1.0}],
    ),
    "VAEDecode": _node(["IMAGE"], samples=["LATENT"], vae=["VAE"]),
}
