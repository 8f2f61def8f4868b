"""Our own node: a photo painted in a style, by classic image processing."""

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
from atelier.engine.nodes.pictures import from_bytes, to_bytes

# Named here too, so that telling what nodes there are doesn't load OpenCV.
STYLES = ("clay", "anime", "realistic", "cartoon", "oil_painting")


def _stylise(context: Context, image: Floats, style: str, strength: float, seed: int) -> Output:
    from atelier.engine.stylise import stylise

    result = np.empty((*image.shape[:3], 3), np.float32)
    for number_in_batch, (source, target) in enumerate(zip(image, result, strict=True)):

        def report(value: int, maximum: int, before: int = number_in_batch) -> None:
            context.progress(before * maximum + value, len(image) * maximum)

        rgb = to_bytes(source[..., :3])
        painted = stylise(rgb, style, strength, seed, on_step=report, on_preview=context.preview)
        target[:] = from_bytes(painted)
    return Output(result)


NODES = (
    NodeClass(
        name="AtelierStylise",
        display_name="Stylise",
        category="image/stylise",
        module="atelier",
        description="Paints a photo in a style, without a model: for machines without a GPU.",
        required={
            "image": IMAGE,
            "style": choice(*STYLES),
            "strength": number(0.6, 0.0, 1.0, 0.01),
            "seed": integer(0, 0, 0xFFFFFFFFFFFFFFFF, control_after_generate=True),
        },
        outputs=("IMAGE",),
        run=_stylise,
        contextual=True,
    ),
)
