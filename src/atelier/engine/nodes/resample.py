"""Resizing with the numbers that ComfyUI gets: PyTorch's ``interpolate``, Pillow for lanczos."""

import numpy as np
import numpy.typing as npt
from PIL import Image

from atelier.engine.nodes.node import Context, Floats, require_memory
from atelier.engine.nodes.pictures import from_bytes, open_bytes, to_bytes

METHODS = ("nearest-exact", "bilinear", "area", "bicubic", "lanczos")


def resize(
    images: Floats,
    width: int,
    height: int,
    method: str,
    *,
    crop: str = "disabled",
    context: Context | None = None,
) -> Floats:
    """Return ``images`` (BxHxWxC) at another size.

    ``crop`` "center" first cuts to the wanted aspect ratio. Raises ValueError for a side of 0
    and MemoryError for a result past 2 GiB.
    """
    if width < 1 or height < 1:
        raise ValueError(
            f"Input and output sizes should be greater than 0, but got {width}x{height}"
        )
    require_memory(len(images), height, width, images.shape[3])
    if crop == "center":
        images = _crop_to_aspect(images, width, height)
    result = np.empty((len(images), height, width, images.shape[3]), np.float32)
    for source, target in zip(images, result, strict=True):
        if context is not None:
            context.check_interrupted()
        target[:] = _resize_one(source, width, height, method)
    return result


def resize_masks(masks: Floats, width: int, height: int) -> Floats:
    """Return ``masks`` (BxHxW) at another size, bilinear."""
    return resize(flatten_masks(masks)[..., None], width, height, "bilinear")[..., 0]


def flatten_masks(masks: Floats) -> Floats:
    """Return ``masks`` as BxHxW, whatever came before the last two axes."""
    return masks.reshape(-1, *masks.shape[-2:])


def _resize_one(image: Floats, width: int, height: int, method: str) -> Floats:
    if method == "lanczos":
        return _lanczos(image, width, height)
    if method == "area":
        return _average(_average(image, height, axis=0), width, axis=1)
    if method == "nearest-exact":
        rows = _nearest(image.shape[0], height)
        return image[rows][:, _nearest(image.shape[1], width)]
    import cv2

    flag = {"bilinear": cv2.INTER_LINEAR, "bicubic": cv2.INTER_CUBIC}[method]
    resized = cv2.resize(image, (width, height), interpolation=flag)
    return resized.reshape(height, width, image.shape[2]).astype(np.float32, copy=False)


def _crop_to_aspect(images: Floats, width: int, height: int) -> Floats:
    old_height, old_width = images.shape[1:3]
    old_aspect, new_aspect = old_width / old_height, width / height
    x = y = 0
    if old_aspect > new_aspect:
        x = round((old_width - old_width * (new_aspect / old_aspect)) / 2)
    elif old_aspect < new_aspect:
        y = round((old_height - old_height * (old_aspect / new_aspect)) / 2)
    return images[:, y : old_height - y, x : old_width - x]


def _nearest(size: int, new_size: int) -> npt.NDArray[np.intp]:
    centres = (np.arange(new_size) + 0.5) * (size / new_size)
    return np.minimum(centres.astype(np.intp), size - 1)


def _average(image: Floats, new_size: int, *, axis: int) -> Floats:
    # PyTorch's windows are whole pixels and may overlap; OpenCV's INTER_AREA weighs fractions.
    size = image.shape[axis]
    index = np.arange(new_size)
    starts = index * size // new_size
    lengths = -((index + 1) * size // -new_size) - starts
    shape = [1] * image.ndim
    shape[axis] = new_size
    total: Floats = np.take(image, starts, axis=axis)
    for offset in range(1, int(lengths.max())):
        inside = (offset < lengths).astype(np.float32).reshape(shape)
        total += np.take(image, np.minimum(starts + offset, size - 1), axis=axis) * inside
    total /= lengths.astype(np.float32).reshape(shape)
    return total


def _lanczos(image: Floats, width: int, height: int) -> Floats:
    picture = open_bytes(to_bytes(image)).resize((width, height), Image.Resampling.LANCZOS)
    return from_bytes(np.asarray(picture)).reshape(height, width, image.shape[2])
