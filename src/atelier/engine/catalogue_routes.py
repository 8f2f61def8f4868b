"""HTTP: what the engine is and has: nodes, models (none), features, memory."""

import asyncio
import os
import sys
from typing import Final

from aiohttp import web

from atelier.engine.clients import FEATURES
from atelier.engine.folders import Folders
from atelier.engine.http_json import answer
from atelier.engine.nodes import NODES

COMFYUI_VERSION: Final = "0.3.64"  # whose protocol is spoken
_MODEL_FOLDERS: Final = (
    "checkpoints",
    "configs",
    "loras",
    "vae",
    "text_encoders",
    "diffusion_models",
    "clip_vision",
    "style_models",
    "embeddings",
    "diffusers",
    "vae_approx",
    "controlnet",
    "gligen",
    "upscale_models",
    "custom_nodes",
    "hypernetworks",
    "photomaker",
    "classifiers",
    "model_patches",
    "audio_encoders",
)


class CatalogueRoutes:
    """Answers from what the engine is; only the lists of input files ever change."""

    def __init__(self, folders: Folders) -> None:
        self._folders = folders

    def routes(self, prefix: str) -> list[web.RouteDef]:
        return [
            web.get(f"{prefix}/object_info", self.tell_nodes),
            web.get(f"{prefix}/object_info/{{name}}", self.tell_node),
            web.get(f"{prefix}/system_stats", self.tell_system),
            web.get(f"{prefix}/features", self.tell_features),
            web.get(f"{prefix}/models", self.tell_model_folders),
            web.get(f"{prefix}/models/{{folder}}", self.tell_models),
            web.get(f"{prefix}/embeddings", self.tell_nothing),
            web.get(f"{prefix}/extensions", self.tell_nothing),
        ]

    async def tell_nodes(self, request: web.Request) -> web.Response:
        return answer(await asyncio.to_thread(self._infos, list(NODES)))

    async def tell_node(self, request: web.Request) -> web.Response:
        name = request.match_info["name"]
        return answer(await asyncio.to_thread(self._infos, [name] if name in NODES else []))

    def _infos(self, names: list[str]) -> dict[str, object]:
        return {name: NODES[name].info(self._folders) for name in names}

    async def tell_system(self, request: web.Request) -> web.Response:
        total, free = _memory_bytes()
        system = {
            "os": os.name,
            "ram_total": total,
            "ram_free": free,
            "comfyui_version": COMFYUI_VERSION,
            "required_frontend_version": None,
            "installed_templates_version": None,
            "required_templates_version": None,
            "python_version": sys.version,
            "pytorch_version": None,
            "embedded_python": False,
            "argv": sys.argv,
        }
        cpu = {
            "name": "cpu",
            "type": "cpu",
            "index": None,
            "vram_total": total,
            "vram_free": free,
            "torch_vram_total": total,
            "torch_vram_free": free,
        }
        return answer({"system": system, "devices": [cpu]})

    async def tell_features(self, request: web.Request) -> web.Response:
        return answer(FEATURES)

    async def tell_model_folders(self, request: web.Request) -> web.Response:
        return answer(_MODEL_FOLDERS)

    async def tell_models(self, request: web.Request) -> web.Response:
        if request.match_info["folder"] not in _MODEL_FOLDERS:
            raise web.HTTPNotFound
        return answer([])

    async def tell_nothing(self, request: web.Request) -> web.Response:
        return answer([])


def _memory_bytes() -> tuple[int, int]:
    """Return total and free memory; zeros where the system doesn't say."""
    try:
        page = os.sysconf("SC_PAGE_SIZE")
        return page * os.sysconf("SC_PHYS_PAGES"), page * os.sysconf("SC_AVPHYS_PAGES")
    except (AttributeError, OSError, ValueError):
        return 0, 0
