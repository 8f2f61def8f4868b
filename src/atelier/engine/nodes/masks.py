"""Nodes that make and change masks."""

import numpy as np

from atelier.engine.nodes.node import (
    IMAGE,
    MASK,
    MAX_RESOLUTION,
    Context,
    Floats,
    Input,
    NodeClass,
    Output,
    choice,
    integer,
    length,
    number,
    require_memory,
)
from atelier.engine.nodes.resample import flatten_masks

_CATEGORY = "mask"
_MODULE = "comfy_extras.nodes_mask"
_CHANNELS = ("red", "green", "blue", "alpha")
_GROWTH_BETWEEN_CHECKS = 16  # pixels


def _solid(value: float, width: int, height: int) -> Output:
    require_memory(height, width)
    return Output(np.full((1, height, width), value, np.float32))


def _invert(mask: Floats) -> Output:
    return Output(1 - mask)


def _crop(mask: Floats, x: int, y: int, width: int, height: int) -> Output:
    return Output(flatten_masks(mask)[:, y : y + height, x : x + width].copy())


def _combine(destination: Floats, source: Floats, x: int, y: int, operation: str) -> Output:
    result = flatten_masks(destination).copy()
    source = flatten_masks(source)
    under = result[:, y : y + source.shape[1], x : x + source.shape[2]]
    over = source[:, : under.shape[1], : under.shape[2]]
    if operation == "multiply":
        under *= over
    elif operation == "add":
        under += over
    elif operation == "subtract":
        under -= over
    else:
        operate = {"and": np.logical_and, "or": np.logical_or, "xor": np.logical_xor}[operation]
        under[:] = operate(np.round(under), np.round(over))
    return Output(np.clip(result, 0, 1))


def _feather(mask: Floats, left: int, top: int, right: int, bottom: int) -> Output:
    result = flatten_masks(mask).copy()
    height, width = result.shape[1:]
    left, right = min(left, width), min(right, width)
    top, bottom = min(top, height), min(bottom, height)
    for x in range(left):
        result[:, :, x] *= (x + 1) / left
    # ComfyUI counts from -0, so its right and bottom ramps begin at the first column and row.
    for x in range(right):
        result[:, :, -x] *= (x + 1) / right
    for y in range(top):
        result[:, y] *= (y + 1) / top
    for y in range(bottom):
        result[:, -y] *= (y + 1) / bottom
    return Output(result)


def _grow(context: Context, mask: Floats, expand: int, tapered_corners: bool) -> Output:
    import cv2

    shape = cv2.MORPH_CROSS if tapered_corners else cv2.MORPH_RECT
    kernel = cv2.getStructuringElement(shape, (3, 3))
    operate = cv2.erode if expand < 0 else cv2.dilate
    masks = flatten_masks(mask)
    # After so many steps the extreme value has reached every corner.
    steps = min(abs(expand), masks.shape[1] + masks.shape[2])
    result = np.array(masks, np.float32)
    for target in result:
        for done in range(0, steps, _GROWTH_BETWEEN_CHECKS):
            context.check_interrupted()
            count = min(_GROWTH_BETWEEN_CHECKS, steps - done)
            target[:] = operate(target, kernel, iterations=count)
    return Output(result)


def _threshold(mask: Floats, value: float) -> Output:
    return Output((mask > value).astype(np.float32))


def _to_image(mask: Floats) -> Output:
    return Output(np.repeat(flatten_masks(mask)[..., None], 3, axis=3))


def _from_image(image: Floats, channel: str) -> Output:
    return Output(image[..., _CHANNELS.index(channel)].copy())


def _from_color(image: Floats, color: int) -> Output:
    levels = np.round(np.clip(image[..., :3], 0, 1) * 255).astype(np.int32)
    packed = (levels[..., 0] << 16) + (levels[..., 1] << 8) + levels[..., 2]
    return Output((packed == color).astype(np.float32))


NODES = (
    NodeClass(
        name="SolidMask",
        category=_CATEGORY,
        module=_MODULE,
        required={"value": number(1.0, 0.0, 1.0, 0.01), "width": length(), "height": length()},
        outputs=("MASK",),
        run=_solid,
    ),
    NodeClass(
        name="InvertMask",
        category=_CATEGORY,
        module=_MODULE,
        required={"mask": MASK},
        outputs=("MASK",),
        run=_invert,
    ),
    NodeClass(
        name="CropMask",
        category=_CATEGORY,
        module=_MODULE,
        required={
            "mask": MASK,
            "x": length(0, low=0),
            "y": length(0, low=0),
            "width": length(),
            "height": length(),
        },
        outputs=("MASK",),
        run=_crop,
    ),
    NodeClass(
        name="MaskComposite",
        category=_CATEGORY,
        module=_MODULE,
        required={
            "destination": MASK,
            "source": MASK,
            "x": length(0, low=0),
            "y": length(0, low=0),
            "operation": choice("multiply", "add", "subtract", "and", "or", "xor"),
        },
        outputs=("MASK",),
        run=_combine,
    ),
    NodeClass(
        name="FeatherMask",
        category=_CATEGORY,
        module=_MODULE,
        required={
            "mask": MASK,
            "left": length(0, low=0),
            "top": length(0, low=0),
            "right": length(0, low=0),
            "bottom": length(0, low=0),
        },
        outputs=("MASK",),
        run=_feather,
    ),
    NodeClass(
        name="GrowMask",
        category=_CATEGORY,
        module=_MODULE,
        required={
            "mask": MASK,
            "expand": integer(0, -MAX_RESOLUTION, MAX_RESOLUTION, step=1),
            "tapered_corners": Input("BOOLEAN", {"default": True}),
        },
        outputs=("MASK",),
        run=_grow,
        contextual=True,
    ),
    NodeClass(
        name="ThresholdMask",
        category=_CATEGORY,
        module=_MODULE,
        required={"mask": MASK, "value": number(0.5, 0.0, 1.0, 0.01)},
        outputs=("MASK",),
        run=_threshold,
    ),
    NodeClass(
        name="MaskToImage",
        display_name="Convert Mask to Image",
        category=_CATEGORY,
        module=_MODULE,
        required={"mask": MASK},
        outputs=("IMAGE",),
        run=_to_image,
    ),
    NodeClass(
        name="ImageToMask",
        display_name="Convert Image to Mask",
        category=_CATEGORY,
        module=_MODULE,
        required={"image": IMAGE, "channel": choice(*_CHANNELS)},
        outputs=("MASK",),
        run=_from_image,
    ),
    NodeClass(
        name="ImageColorToMask",
        category=_CATEGORY,
        module=_MODULE,
        required={"image": IMAGE, "color": integer(0, 0, 0xFFFFFF, step=1, display="color")},
        outputs=("MASK",),
        run=_from_color,
    ),
)
