"""Which models a graph loads, and what names them together. Pure.

Loading takes seconds, so an instance that has a job's models loaded is the better place for it.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from atelier.comfy.object_info import model_folder

# What takes long to load. LoRAs, VAEs and the like come quickly beside it.
_HEAVY_FOLDERS: Final = frozenset({"checkpoints", "diffusion_models", "diffusers"})
# Loaders of custom nodes name their input as the core's do.
_HEAVY_INPUTS: Final = frozenset({"ckpt_name", "unet_name"})
_LIGHT_FOLDERS: Final = frozenset({"loras", "vae"})
_SUFFIXES: Final = (
    ".safetensors",
    ".ckpt",
    ".pt",
    ".pt2",
    ".pth",
    ".bin",
    ".sft",
    ".gguf",
    ".onnx",
)
_LONGEST_KEY: Final = 255


@dataclass(frozen=True, slots=True)
class GraphModels:
    """``names`` are the model files that count, ``loaders`` the ids of the nodes that load them."""

    names: tuple[str, ...]
    loaders: frozenset[str]

    @property
    def key(self) -> str | None:
        """The names joined by ``+``, at most 255 characters; None where nothing is loaded."""
        joined = "+".join(self.names)
        if len(joined) <= _LONGEST_KEY:
            return joined or None
        # Cut off, two that differ at the end would be taken for one.
        digest = hashlib.sha256(joined.encode()).hexdigest()[:16]
        return f"{joined[: _LONGEST_KEY - 17]}#{digest}"


def names_model(class_type: str, input_name: str, value: object) -> bool:
    """True if a literal at that input is a model file's name, also of a custom node's loader."""
    if not isinstance(value, str):
        return False
    if model_folder(class_type, input_name) is not None:
        return True
    return value.lower().endswith(_SUFFIXES) and "\n" not in value


def models_of(graph: Mapping[str, Any]) -> GraphModels:
    """What ``graph``, in the API format, loads: checkpoints and diffusion models.

    Where it has none of those, its other models, and LoRAs and VAEs only where nothing else is.
    What is no node is passed over, since other people's prompts are looked at too.
    """
    found: dict[int, list[tuple[str, str]]] = {}
    for node_id, node in graph.items():
        if not isinstance(node, Mapping) or not isinstance(node.get("inputs"), Mapping):
            continue
        class_type = str(node.get("class_type"))
        for name, value in node["inputs"].items():
            if names_model(class_type, name, value):
                found.setdefault(_rank(class_type, name), []).append((node_id, value))
    heaviest = found[min(found)] if found else []
    return GraphModels(
        tuple(sorted({value for _, value in heaviest})),
        frozenset(node_id for node_id, _ in heaviest),
    )


def _rank(class_type: str, input_name: str) -> int:
    folder = model_folder(class_type, input_name)
    if folder in _HEAVY_FOLDERS or (folder is None and input_name in _HEAVY_INPUTS):
        return 0
    return 2 if folder in _LIGHT_FOLDERS else 1
