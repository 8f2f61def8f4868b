"""What all figures share: the ComfyUI to measure, and how much of it."""

import random
import uuid
from dataclasses import dataclass, field
from pathlib import Path

from bench.graphs import Colours


def _colours() -> Colours:
    return Colours(f"bench-{uuid.uuid4().hex[:8]}/p", random.Random())


@dataclass(frozen=True, slots=True)
class Plan:
    """``comfyui`` is the address that is used directly and by atelier; quick: a few of each.

    ``templates`` is a folder of graphs in UI format, ``chromium`` the browser to export them with,
    ``exports`` where to write what it exports.
    """

    comfyui: str
    quick: bool = False
    templates: Path | None = None
    chromium: str | None = None
    exports: Path | None = None
    colours: Colours = field(default_factory=_colours)

    def size(self, whole: int, quick: int) -> int:
        return quick if self.quick else whole
