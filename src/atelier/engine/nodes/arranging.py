"""Nodes that lay pictures side by side or on a ground, and one that tells their size."""

import numpy as np

from atelier.engine.nodes.frames import Images
from atelier.engine.nodes.node import (
    IMAGE,
    Context,
    Floats,
    Input,
    NodeClass,
    Output,
    choice,
    integer,
    length,
    require_memory,
)
from atelier.engine.nodes.resample import resize
from atelier.engine.nodes.transform import opaque

_CATEGORY = "image/transform"
_MODULE = "comfy_extras.nodes_images"
_COLOURS = {
    "white": (1.0, 1.0, 1.0),
    "black": (0.0, 0.0, 0.0),
    "red": (1.0, 0.0, 0.0),
    "green": (0.0, 1.0, 0.0),
    "blue": (0.0, 0.0, 1.0),
}


def _size(image: Images) -> Output:
    count, height, width, _ = image.shape
    return Output(width, height, count)


def _stitch(
    context: Context,
    image1: Floats,
    direction: str,
    match_image_size: bool,
    spacing_width: int,
    spacing_color: str,
    image2: Floats | None = None,
) -> Output:
    if image2 is None:
        return Output(image1)
    count = max(len(image1), len(image2))
    first, second = _of_length(image1, count), _of_length(image2, count)
    along = 2 if direction in ("left", "right") else 1
    across = 3 - along
    if match_image_size:
        height, width = first.shape[1:3]
        aspect = second.shape[2] / second.shape[1]
        if along == 2:
            width = int(height * aspect)
        else:
            height = int(width / aspect)
        second = resize(second, width, height, "lanczos", context=context)
    else:
        side = max(first.shape[across], second.shape[across])
        # ComfyUI pads with grey levels only: black under a coloured space.
        level = 1.0 if spacing_color == "white" else 0.0
        first, second = (_padded(part, across, side, level) for part in (first, second))
    channels = max(first.shape[3], second.shape[3])
    parts = [opaque(first, channels), opaque(second, channels)]
    if direction in ("left", "up"):
        parts.reverse()
    if spacing_width:
        shape = list(parts[0].shape)
        shape[along] = spacing_width + spacing_width % 2
        space = np.ones(shape, np.float32)
        space[..., :3] = _COLOURS[spacing_color]
        parts.insert(1, space)
    extent = sum(part.shape[along] for part in parts)
    require_memory(count, extent, parts[0].shape[across], channels)
    return Output(np.concatenate(parts, axis=along))


def _of_length(images: Floats, count: int) -> Floats:
    """Return ``images`` with the last one repeated until there are ``count``."""
    return images[[min(index, len(images) - 1) for index in range(count)]]


def _padded(images: Floats, axis: int, side: int, level: float) -> Floats:
    missing = side - images.shape[axis]
    widths = [(0, 0)] * 4
    widths[axis] = (missing // 2, missing - missing // 2)
    return np.pad(images, widths, constant_values=level)


def _resize_and_pad(
    context: Context,
    image: Floats,
    target_width: int,
    target_height: int,
    padding_color: str,
    interpolation: str,
) -> Output:
    count, height, width, channels = image.shape
    require_memory(count, target_height, target_width, channels)
    scale = min(target_width / width, target_height / height)
    width, height = int(width * scale), int(height * scale)
    level = 0.0 if padding_color == "black" else 1.0
    result = np.full((count, target_height, target_width, channels), level, np.float32)
    top, left = (target_height - height) // 2, (target_width - width) // 2
    inside = result[:, top : top + height, left : left + width]
    inside[:] = resize(image, width, height, interpolation, context=context)
    return Output(result)


NODES = (
    NodeClass(
        name="GetImageSize",
        display_name="Get Image Size",
        category="image",
        module=_MODULE,
        description="Returns width and height of the image, and passes it through unchanged.",
        required={"image": IMAGE},
        hidden={"unique_id": "UNIQUE_ID"},
        outputs=("INT", "INT", "INT"),
        output_names=("width", "height", "batch_size"),
        run=_size,
        takes_frames=True,
    ),
    NodeClass(
        name="ImageStitch",
        display_name="Image Stitch",
        category=_CATEGORY,
        module=_MODULE,
        description=(
            "\nStitches image2 to image1 in the specified direction.\n"
            "If image2 is not provided, returns image1 unchanged.\n"
            "Optional spacing can be added between images.\n"
        ),
        required={
            "image1": IMAGE,
            "direction": Input(("right", "down", "left", "up"), {"default": "right"}),
            "match_image_size": Input("BOOLEAN", {"default": True}),
            "spacing_width": integer(0, 0, 1024, step=2),
            "spacing_color": Input(tuple(_COLOURS), {"default": "white"}),
        },
        optional={"image2": IMAGE},
        outputs=("IMAGE",),
        run=_stitch,
        contextual=True,
    ),
    NodeClass(
        name="ResizeAndPadImage",
        category=_CATEGORY,
        module=_MODULE,
        required={
            "image": IMAGE,
            "target_width": length(),
            "target_height": length(),
            "padding_color": choice("white", "black"),
            "interpolation": choice("area", "bicubic", "nearest-exact", "bilinear", "lanczos"),
        },
        outputs=("IMAGE",),
        run=_resize_and_pad,
        contextual=True,
    ),
)
