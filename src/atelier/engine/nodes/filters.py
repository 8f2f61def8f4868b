"""Nodes that work on colours and neighbourhoods."""

import numpy as np

from atelier.engine.nodes.node import (
    Bytes,
    Context,
    Floats,
    Input,
    NodeClass,
    Output,
    integer,
    number,
)
from atelier.engine.nodes.pictures import open_bytes
from atelier.engine.nodes.resample import resize
from atelier.engine.nodes.transform import opaque

_CATEGORY = "image/postprocessing"
_MODULE = "comfy_extras.nodes_post_processing"
_IMAGE = Input("IMAGE", {})


def _blend(
    context: Context, image1: Floats, image2: Floats, blend_factor: float, blend_mode: str
) -> Output:
    if image2.shape[1:3] != image1.shape[1:3]:
        height, width = image1.shape[1:3]
        image2 = resize(image2, width, height, "bicubic", crop="center", context=context)
    image2 = opaque(image2[..., : image1.shape[3]], image1.shape[3])
    mixed = image1 * np.float32(1 - blend_factor)
    mixed = mixed + _mix(image1, image2, blend_mode) * np.float32(blend_factor)
    return Output(np.clip(mixed, 0, 1))


def _mix(a: Floats, b: Floats, mode: str) -> Floats:
    if mode == "normal":
        return b
    if mode == "multiply":
        return a * b
    if mode == "screen":
        return 1 - (1 - a) * (1 - b)
    if mode == "overlay":
        return np.where(a <= 0.5, 2 * a * b, 1 - 2 * (1 - a) * (1 - b))
    if mode == "soft_light":
        bright = np.where(a <= 0.25, ((16 * a - 12) * a + 4) * a, np.sqrt(a))
        return np.where(b <= 0.5, a - (1 - 2 * b) * a * (1 - a), a + (2 * b - 1) * (bright - a))
    if mode == "difference":
        return a - b
    raise ValueError(f"Unsupported blend mode: {mode}")


def _blur(context: Context, image: Floats, blur_radius: int, sigma: float) -> Output:
    return Output(_gaussian(context, image, blur_radius, sigma))


def _sharpen(
    context: Context, image: Floats, sharpen_radius: int, sigma: float, alpha: float
) -> Output:
    amount = np.float32(alpha * 10)
    soft = _gaussian(context, image, sharpen_radius, sigma)
    return Output(np.clip(image + amount * (image - soft), 0, 1))


def _gaussian(context: Context, images: Floats, radius: int, sigma: float) -> Floats:
    # In ComfyUI sigma is a share of the radius, not a number of pixels.
    import cv2

    position = np.linspace(-1, 1, 2 * radius + 1)
    kernel = np.exp(-(position**2) / (2 * sigma**2))
    kernel = (kernel / kernel.sum()).astype(np.float32)
    result = np.empty_like(images)
    for source, target in zip(images, result, strict=True):
        context.check_interrupted()
        border = cv2.BORDER_REFLECT_101
        blurred = cv2.sepFilter2D(source, cv2.CV_32F, kernel, kernel, borderType=border)
        target[:] = blurred.reshape(target.shape)
    return result


def _quantize(context: Context, image: Floats, colors: int, dither: str) -> Output:
    from PIL import Image

    result = np.empty((*image.shape[:3], 3), np.float32)
    for source, target in zip(image, result, strict=True):
        context.check_interrupted()
        data = (source[..., :3] * 255).astype(np.uint8)
        picture = open_bytes(data)
        palette = picture.quantize(colors=colors)
        kind = Image.Dither.FLOYDSTEINBERG if dither == "floyd-steinberg" else Image.Dither.NONE
        if dither.startswith("bayer-"):
            shades = len(palette.getpalette() or ()) // 3
            picture = open_bytes(_ordered_noise(data, shades, int(dither.removeprefix("bayer-"))))
        reduced = picture.quantize(palette=palette, dither=kind).convert("RGB")
        target[:] = np.asarray(reduced, np.float32) / 255
    return Output(result)


def _ordered_noise(data: Bytes, shades: int, order: int) -> Bytes:
    matrix = np.zeros((1, 1))
    for cells in (4**n for n in range(1, order.bit_length())):
        grown = cells * matrix
        matrix = np.block([[grown - 1.5, grown + 0.5], [grown + 1.5, grown - 0.5]]) / cells
    noise = 2 * 256 / shades * matrix + 0.5
    repeats = [-(-side // order) for side in data.shape[:2]]
    tiled = np.tile(noise, repeats)[: data.shape[0], : data.shape[1], None]
    return np.clip(data + tiled, 0, 255).astype(np.uint8)


def _choice(*names: str) -> Input:
    return Input("COMBO", {"multiselect": False, "options": list(names)})


NODES = (
    NodeClass(
        name="ImageBlend",
        category=_CATEGORY,
        module=_MODULE,
        schema=3,
        required={
            "image1": _IMAGE,
            "image2": _IMAGE,
            "blend_factor": number(0.5, 0.0, 1.0, 0.01),
            "blend_mode": _choice(
                "normal", "multiply", "screen", "overlay", "soft_light", "difference"
            ),
        },
        outputs=("IMAGE",),
        run=_blend,
        contextual=True,
    ),
    NodeClass(
        name="ImageBlur",
        category=_CATEGORY,
        module=_MODULE,
        schema=3,
        required={
            "image": _IMAGE,
            "blur_radius": integer(1, 1, 31, step=1),
            "sigma": number(1.0, 0.1, 10.0, 0.1),
        },
        outputs=("IMAGE",),
        run=_blur,
        contextual=True,
    ),
    NodeClass(
        name="ImageSharpen",
        category=_CATEGORY,
        module=_MODULE,
        schema=3,
        required={
            "image": _IMAGE,
            "sharpen_radius": integer(1, 1, 31, step=1),
            "sigma": number(1.0, 0.1, 10.0, 0.01),
            "alpha": number(1.0, 0.0, 5.0, 0.01),
        },
        outputs=("IMAGE",),
        run=_sharpen,
        contextual=True,
    ),
    NodeClass(
        name="ImageQuantize",
        category=_CATEGORY,
        module=_MODULE,
        schema=3,
        required={
            "image": _IMAGE,
            "colors": integer(256, 1, 256, step=1),
            "dither": _choice(
                "none", "floyd-steinberg", "bayer-2", "bayer-4", "bayer-8", "bayer-16"
            ),
        },
        outputs=("IMAGE",),
        run=_quantize,
        contextual=True,
    ),
)
