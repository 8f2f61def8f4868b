"""Our own node that colours a drawing."""

import numpy as np

from atelier.engine.nodes.node import (
    IMAGE,
    Context,
    Floats,
    NodeClass,
    Output,
    choice,
    integer,
    number,
)
from atelier.engine.nodes.pictures import to_bytes

# Named here too, so that telling what nodes there are doesn't load OpenCV.
MEDIA = ("watercolour", "coloured_pencil", "ink")
PALETTES = ("warm", "cool", "spring", "autumn", "from_sketch")


def _colour(
    context: Context, image: Floats, medium: str, palette: str, strength: float, seed: int
) -> Output:
    from atelier.engine.retouch.sketching import STEPS, colour_sketch

    result = np.empty((*image.shape[:3], 3), np.float32)
    for index, (source, target) in enumerate(zip(image, result, strict=True)):

        def step(value: int, before: int = index) -> None:
            context.progress(before * STEPS + value, len(image) * STEPS)

        rgb = np.ascontiguousarray(to_bytes(source[..., :3]))
        target[:] = colour_sketch(rgb, medium, palette, strength, seed, on_step=step)
    return Output(result)


NODES = (
    NodeClass(
        name="AtelierSketch",
        display_name="Colour Sketch",
        category="image/stylise",
        module="atelier",
        description=(
            "Cleans a drawing's lines and colours the areas that they enclose, on paper. It adds "
            "paint, not things: without a model nothing is drawn that wasn't there."
        ),
        required={
            "image": IMAGE,
            "medium": choice(*MEDIA),
            "palette": choice(*PALETTES),
            "strength": number(0.7, 0.0, 1.0, 0.01),
            "seed": integer(0, 0, 0xFFFFFFFFFFFFFFFF, control_after_generate=True),
        },
        outputs=("IMAGE",),
        run=_colour,
        contextual=True,
    ),
)
