"""Nodes that lay pictures over each other, and join and split alpha."""

import numpy as np

from atelier.engine.nodes.node import IMAGE, MASK, Context, Floats, Input, NodeClass, Output, length
from atelier.engine.nodes.resample import resize, resize_masks
from atelier.engine.nodes.transform import opaque

_MODULE = "comfy_extras.nodes_compositing"


def _composite(
    context: Context,
    destination: Floats,
    source: Floats,
    x: int,
    y: int,
    resize_source: bool,
    mask: Floats | None = None,
) -> Output:
    batch, height, width, channels = destination.shape
    source = opaque(source[..., :channels], channels)
    if resize_source:
        source = resize(source, width, height, "bilinear", context=context)
    source = _repeat_to(source, batch)
    x, y = min(x, width), min(y, height)
    result = destination.copy()
    under = result[:, y : y + source.shape[1], x : x + source.shape[2]]
    over = source[:, : under.shape[1], : under.shape[2]]
    if mask is None:
        under[:] = over
    else:
        shares = _repeat_to(resize_masks(mask, source.shape[2], source.shape[1]), batch)
        share = shares[:, : under.shape[1], : under.shape[2], None]
        under[:] = share * over + (1 - share) * under
    return Output(result)


def _repeat_to(images: Floats, batch: int) -> Floats:
    """Return the first ``batch`` of ``images``, starting again from the first when too few."""
    return images if len(images) == batch else images[np.arange(batch) % len(images)]


def _join(image: Floats, alpha: Floats) -> Output:
    # A mask is what is left out, alpha what is seen.
    seen = 1 - resize_masks(alpha, image.shape[2], image.shape[1])
    batch = min(len(image), len(seen))
    return Output(np.concatenate([image[:batch, ..., :3], seen[:batch, ..., None]], axis=3))


def _split(image: Floats) -> Output:
    alpha = image[..., 3] if image.shape[3] > 3 else np.ones(image.shape[:3], np.float32)
    return Output(np.ascontiguousarray(image[..., :3]), 1 - alpha)


NODES = (
    NodeClass(
        name="ImageCompositeMasked",
        category="image",
        module="comfy_extras.nodes_mask",
        required={
            "destination": IMAGE,
            "source": IMAGE,
            "x": length(0, low=0),
            "y": length(0, low=0),
            "resize_source": Input("BOOLEAN", {"default": False}),
        },
        optional={"mask": MASK},
        outputs=("IMAGE",),
        run=_composite,
        contextual=True,
    ),
    NodeClass(
        name="JoinImageWithAlpha",
        display_name="Join Image with Alpha",
        category="mask/compositing",
        module=_MODULE,
        schema=3,
        required={"image": Input("IMAGE", {}), "alpha": Input("MASK", {})},
        outputs=("IMAGE",),
        run=_join,
    ),
    NodeClass(
        name="SplitImageWithAlpha",
        display_name="Split Image with Alpha",
        category="mask/compositing",
        module=_MODULE,
        schema=3,
        required={"image": Input("IMAGE", {})},
        outputs=("IMAGE", "MASK"),
        run=_split,
    ),
)
