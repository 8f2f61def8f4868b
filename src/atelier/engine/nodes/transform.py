"""Nodes that cut, turn and pad pictures, and put batches together."""

import numpy as np

from atelier.engine.nodes.node import (
    IMAGE,
    Context,
    Floats,
    NodeClass,
    Output,
    choice,
    integer,
    length,
    require_memory,
)
from atelier.engine.nodes.resample import resize

_MODULE = "comfy_extras.nodes_images"


def _empty(width: int, height: int, batch_size: int, color: int) -> Output:
    require_memory(batch_size, height, width, 3)
    rgb = np.array([color >> 16 & 255, color >> 8 & 255, color & 255], np.float32) / 255
    return Output(np.full((batch_size, height, width, 3), rgb, np.float32))


def _invert(image: Floats) -> Output:
    return Output(1 - image)


def _crop(image: Floats, width: int, height: int, x: int, y: int) -> Output:
    x, y = min(x, image.shape[2] - 1), min(y, image.shape[1] - 1)
    # A copy: a view would keep the whole picture in the cache.
    return Output(image[:, y : y + height, x : x + width].copy())


def _flip(image: Floats, flip_method: str) -> Output:
    axis = 1 if flip_method.startswith("x") else 2
    return Output(np.ascontiguousarray(np.flip(image, axis)))


def _rotate(image: Floats, rotation: str) -> Output:
    quarters = {"none": 0, "90 degrees": 1, "180 degrees": 2, "270 degrees": 3}[rotation]
    return Output(np.ascontiguousarray(np.rot90(image, quarters, axes=(2, 1))))


def _batch(context: Context, image1: Floats, image2: Floats) -> Output:
    if image1.shape[1:3] != image2.shape[1:3]:
        height, width = image1.shape[1:3]
        image2 = resize(image2, width, height, "bilinear", crop="center", context=context)
    channels = max(image1.shape[3], image2.shape[3])
    require_memory(len(image1) + len(image2), *image1.shape[1:3], channels)
    return Output(np.concatenate([opaque(image1, channels), opaque(image2, channels)]))


def _repeat(image: Floats, amount: int) -> Output:
    require_memory(len(image) * amount, *image.shape[1:])
    return Output(np.tile(image, (amount, 1, 1, 1)))


def _from_batch(image: Floats, batch_index: int, length: int) -> Output:
    first = min(len(image) - 1, batch_index)
    return Output(image[first : first + length].copy())


def _pad(image: Floats, left: int, top: int, right: int, bottom: int, feathering: int) -> Output:
    batch, height, width, channels = image.shape
    outer = (height + top + bottom, width + left + right)
    require_memory(batch, *outer, channels)
    padded = np.full((batch, *outer, channels), 0.5, np.float32)
    padded[:, top : top + height, left : left + width] = image
    mask = np.ones((1, *outer), np.float32)
    inner = mask[0, top : top + height, left : left + width]
    inner[:] = 0
    if 0 < feathering * 2 < min(height, width):
        rows = _distances(height, before=top != 0, after=bottom != 0)
        columns = _distances(width, before=left != 0, after=right != 0)
        distances = np.minimum.outer(rows, columns)
        inner[:] = (np.maximum(feathering - distances, 0) / feathering) ** 2
    return Output(padded, mask)


def _distances(
    size: int, *, before: bool, after: bool
) -> np.ndarray[tuple[int], np.dtype[np.intp]]:
    position = np.arange(size)
    far = np.full(size, size)
    return np.minimum(position if before else far, size - position if after else far)


def opaque(image: Floats, channels: int) -> Floats:
    """Return ``image`` with as many channels, the added ones (alpha) all 1."""
    missing = channels - image.shape[3]
    return np.pad(image, [(0, 0)] * 3 + [(0, missing)], constant_values=1) if missing else image


NODES = (
    NodeClass(
        name="EmptyImage",
        category="image",
        required={
            "width": length(),
            "height": length(),
            "batch_size": integer(1, 1, 4096),
            "color": integer(0, 0, 0xFFFFFF, step=1, display="color"),
        },
        outputs=("IMAGE",),
        run=_empty,
    ),
    NodeClass(
        name="ImageInvert",
        display_name="Invert Image",
        category="image",
        required={"image": IMAGE},
        outputs=("IMAGE",),
        run=_invert,
    ),
    NodeClass(
        name="ImageCrop",
        display_name="Image Crop",
        category="image/transform",
        module=_MODULE,
        required={
            "image": IMAGE,
            "width": length(),
            "height": length(),
            "x": length(0, low=0),
            "y": length(0, low=0),
        },
        outputs=("IMAGE",),
        run=_crop,
    ),
    NodeClass(
        name="ImageFlip",
        category="image/transform",
        module=_MODULE,
        required={
            "image": IMAGE,
            "flip_method": choice("x-axis: vertically", "y-axis: horizontally"),
        },
        outputs=("IMAGE",),
        run=_flip,
    ),
    NodeClass(
        name="ImageRotate",
        category="image/transform",
        module=_MODULE,
        required={
            "image": IMAGE,
            "rotation": choice("none", "90 degrees", "180 degrees", "270 degrees"),
        },
        outputs=("IMAGE",),
        run=_rotate,
    ),
    NodeClass(
        name="ImageBatch",
        display_name="Batch Images",
        category="image",
        required={"image1": IMAGE, "image2": IMAGE},
        outputs=("IMAGE",),
        run=_batch,
        contextual=True,
    ),
    NodeClass(
        name="RepeatImageBatch",
        category="image/batch",
        module=_MODULE,
        required={"image": IMAGE, "amount": integer(1, 1, 4096)},
        outputs=("IMAGE",),
        run=_repeat,
    ),
    NodeClass(
        name="ImageFromBatch",
        category="image/batch",
        module=_MODULE,
        required={
            "image": IMAGE,
            "batch_index": integer(0, 0, 4095),
            "length": integer(1, 1, 4096),
        },
        outputs=("IMAGE",),
        run=_from_batch,
    ),
    NodeClass(
        name="ImagePadForOutpaint",
        display_name="Pad Image for Outpainting",
        category="image",
        required={
            "image": IMAGE,
            "left": length(0, low=0, step=8),
            "top": length(0, low=0, step=8),
            "right": length(0, low=0, step=8),
            "bottom": length(0, low=0, step=8),
            "feathering": length(40, low=0),
        },
        outputs=("IMAGE", "MASK"),
        run=_pad,
    ),
)
