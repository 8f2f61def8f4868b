"""Nodes that change a picture's size."""

import math

from atelier.engine.nodes.node import (
    IMAGE,
    Context,
    Floats,
    Input,
    NodeClass,
    Output,
    choice,
    length,
    number,
)
from atelier.engine.nodes.resample import METHODS, resize

CATEGORY = "image/upscaling"


def _scale(
    context: Context, image: Floats, upscale_method: str, width: int, height: int, crop: str
) -> Output:
    if width == 0 and height == 0:
        return Output(image)
    old_height, old_width = image.shape[1:3]
    if width == 0:
        width = max(1, round(old_width * height / old_height))
    elif height == 0:
        height = max(1, round(old_height * width / old_width))
    return Output(resize(image, width, height, upscale_method, crop=crop, context=context))


def _scale_by(context: Context, image: Floats, upscale_method: str, scale_by: float) -> Output:
    height, width = round(image.shape[1] * scale_by), round(image.shape[2] * scale_by)
    return Output(resize(image, width, height, upscale_method, context=context))


def _scale_to_total_pixels(
    context: Context, image: Floats, upscale_method: str, megapixels: float
) -> Output:
    height, width = image.shape[1:3]
    factor = math.sqrt(int(megapixels * 1024 * 1024) / (width * height))
    width, height = round(width * factor), round(height * factor)
    return Output(resize(image, width, height, upscale_method, context=context))


def _scale_to_max_dimension(
    context: Context, image: Floats, upscale_method: str, largest_size: int
) -> Output:
    height, width = image.shape[1:3]
    if height > width:
        width, height = round(width / height * largest_size), largest_size
    elif width > height:
        width, height = largest_size, round(height / width * largest_size)
    else:
        width = height = largest_size
    return Output(resize(image, width, height, upscale_method, context=context))


NODES = (
    NodeClass(
        name="ImageScale",
        display_name="Upscale Image",
        category=CATEGORY,
        required={
            "image": IMAGE,
            "upscale_method": choice(*METHODS),
            "width": length(low=0),
            "height": length(low=0),
            "crop": choice("disabled", "center"),
        },
        outputs=("IMAGE",),
        run=_scale,
        contextual=True,
    ),
    NodeClass(
        name="ImageScaleBy",
        display_name="Upscale Image By",
        category=CATEGORY,
        required={
            "image": IMAGE,
            "upscale_method": choice(*METHODS),
            "scale_by": number(1.0, 0.01, 8.0, 0.01),
        },
        outputs=("IMAGE",),
        run=_scale_by,
        contextual=True,
    ),
    NodeClass(
        name="ImageScaleToTotalPixels",
        category=CATEGORY,
        module="comfy_extras.nodes_post_processing",
        schema=3,
        required={
            "image": Input("IMAGE", {}),
            "upscale_method": Input("COMBO", {"multiselect": False, "options": list(METHODS)}),
            "megapixels": number(1.0, 0.01, 16.0, 0.01),
        },
        outputs=("IMAGE",),
        run=_scale_to_total_pixels,
        contextual=True,
    ),
    NodeClass(
        name="ImageScaleToMaxDimension",
        category=CATEGORY,
        module="comfy_extras.nodes_images",
        required={
            "image": IMAGE,
            # ComfyUI lists bilinear twice.
            "upscale_method": choice(
                "area", "lanczos", "bilinear", "nearest-exact", "bilinear", "bicubic"
            ),
            "largest_size": length(low=0),
        },
        outputs=("IMAGE",),
        run=_scale_to_max_dimension,
        contextual=True,
    ),
)
