"""What all figures share: the ComfyUI to measure, and how much of it."""

import random
import uuid
from dataclasses import dataclass, field

from bench.graphs import Colours


def _colours() -> Colours:
    return Colours(f"bench-{uuid.uuid4().hex[:8]}/p", random.Random())


@dataclass(frozen=True, slots=True)
class Plan:
    """``comfyui`` is the address that is used directly and by atelier; quick: a few of each."""

    comfyui: str
    quick: bool = False
    colours: Colours = field(default_factory=_colours)

    def size(self, whole: int, quick: int) -> int:
        return quick if self.quick else whole
