"""Our own node that makes one picture of two or three."""

import numpy as np

from atelier.engine.nodes.node import (
    IMAGE,
    Context,
    Floats,
    NodeClass,
    Output,
    choice,
    number,
    require_memory,
)
from atelier.engine.nodes.resample import resize

# Named here too, so that telling what nodes there are doesn't load OpenCV.
MODES = ("double_exposure", "fusion", "panorama", "collage")


def _blend(
    context: Context,
    image1: Floats,
    image2: Floats,
    mode: str,
    weight1: float,
    weight2: float,
    weight3: float,
    softness: float,
    image3: Floats | None = None,
) -> Output:
    from atelier.engine.retouch.blending import blend, steps_for

    height, width = image1.shape[1:3]
    given = [image for image in (image1, image2, image3) if image is not None]
    weights = [weight1, weight2, weight3][: len(given)]
    fitted = [
        resize(image[..., :3], width, height, "bicubic", crop="center", context=context)
        for image in given
    ]
    count = max(len(images) for images in fitted)
    require_memory(count, height, width * (len(given) if mode == "panorama" else 1), 3)
    maximum = count * steps_for(mode, len(given))
    done = 0

    def step() -> None:
        nonlocal done
        done += 1
        context.progress(done, maximum)

    blended = []
    for index in range(count):
        # A shorter batch goes on with its last picture.
        pictures = [np.clip(images[min(index, len(images) - 1)], 0, 1) for images in fitted]
        blended.append(blend(pictures, weights, mode, softness, step))
    return Output(np.stack(blended))


_WEIGHT = number(1.0, 0.0, 4.0, 0.05)

NODES = (
    NodeClass(
        name="AtelierBlend",
        display_name="Blend Images",
        category="image/retouch",
        module="atelier",
        description=(
            "Makes one picture of two or three: double exposure, the best of each (fusion), "
            "side by side (panorama) or panels that run into each other (collage)."
        ),
        required={
            "image1": IMAGE,
            "image2": IMAGE,
            "mode": choice(*MODES),
            "weight1": _WEIGHT,
            "weight2": _WEIGHT,
            "weight3": _WEIGHT,
            "softness": number(0.5, 0.0, 1.0, 0.01),
        },
        optional={"image3": IMAGE},
        outputs=("IMAGE",),
        run=_blend,
        contextual=True,
    ),
)
