"""The few nodes that a null engine claims to have, as ComfyUI describes them, and its picture."""

import functools
import io
from collections.abc import Mapping, Sequence
from typing import Any

from PIL import Image

LOADER = "CheckpointLoaderSimple"
SIDE = 64  # pixels

_WHOLE = {"default": 1, "min": 0, "max": 2**64 - 1}
_INT: list[Any] = ["INT", _WHOLE]
_FLOAT: list[Any] = ["FLOAT", {"default": 1.0, "min": 0.0, "max": 1e9}]
_TEXT: list[Any] = ["STRING", {"default": ""}]


def node_infos(models: Sequence[str]) -> dict[str, dict[str, Any]]:
    """What ``/object_info`` tells of an engine with these checkpoints."""
    sampler = {
        "model": ["MODEL"],
        "seed": _INT,
        "steps": _INT,
        "cfg": _FLOAT,
        "sampler_name": [["euler"], {}],
        "scheduler": [["normal"], {}],
        "positive": ["CONDITIONING"],
        "negative": ["CONDITIONING"],
        "latent_image": ["LATENT"],
        "denoise": _FLOAT,
    }
    size = {"width": _INT, "height": _INT, "batch_size": _INT}
    return {
        LOADER: _info(LOADER, {"ckpt_name": [list(models), {}]}, ("MODEL", "CLIP", "VAE")),
        "CLIPTextEncode": _info(
            "CLIPTextEncode", {"text": _TEXT, "clip": ["CLIP"]}, ("CONDITIONING",)
        ),
        "EmptyLatentImage": _info("EmptyLatentImage", size, ("LATENT",)),
        "KSampler": _info("KSampler", sampler, ("LATENT",)),
        "VAEDecode": _info("VAEDecode", {"samples": ["LATENT"], "vae": ["VAE"]}, ("IMAGE",)),
        "EmptyImage": _info("EmptyImage", {**size, "color": _INT}, ("IMAGE",)),
        "SaveImage": _info("SaveImage", {"images": ["IMAGE"], "filename_prefix": _TEXT}, ()),
    }


def output_nodes(graph: Mapping[str, Any]) -> list[str]:
    return [id for id, node in graph.items() if node["class_type"] == "SaveImage"]


def mark(graph: Mapping[str, Any]) -> str:
    """What the first output is to be named: by this a caller finds its own again."""
    return str(graph[output_nodes(graph)[0]]["inputs"].get("filename_prefix", ""))


@functools.cache
def picture() -> bytes:
    """A plain PNG: the same for everybody."""
    data = io.BytesIO()
    Image.new("RGB", (SIDE, SIDE), (90, 120, 150)).save(data, "PNG")
    return data.getvalue()


def _info(name: str, required: Mapping[str, Any], outputs: Sequence[str]) -> dict[str, Any]:
    return {
        "input": {"required": dict(required)},
        "input_order": {"required": list(required)},
        "output": list(outputs),
        "output_is_list": [False] * len(outputs),
        "output_name": list(outputs),
        "name": name,
        "display_name": name,
        "description": "",
        "python_module": "nodes",
        "category": "null",
        "output_node": not outputs,
    }
