"""The embedded CPU engine: ComfyUI's protocol and image nodes, without models or a GPU.

Importing this is cheap: NumPy, Pillow and OpenCV are loaded by ``main`` and ``serve`` only,
so that whoever starts the engine as a process of its own doesn't carry them.
"""

from atelier.engine.command import main
from atelier.engine.config import EngineConfig

__all__ = ["EngineConfig", "main"]
