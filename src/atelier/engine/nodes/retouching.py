"""Our own nodes that retouch photos: fill, cut out, swap faces, adjust and enlarge."""

from collections.abc import Callable
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from atelier.engine.nodes.node import (
    IMAGE,
    MASK,
    Context,
    Floats,
    Input,
    NodeClass,
    Output,
    choice,
    integer,
    number,
    require_memory,
)
from atelier.engine.nodes.pictures import from_bytes, to_bytes
from atelier.engine.nodes.resample import resize_masks

Mask: TypeAlias = npt.NDArray[np.bool_]

_MODULE = "atelier"
_CATEGORY = "image/retouch"
_LARGEST_SEED = 0xFFFFFFFFFFFFFFFF
_MOST_PIXELS = 64_000_000  # what LoadImage takes in, so that a result can be worked on further
_SELECTED = 0.5
# Named here too, so that telling what nodes there are doesn't load OpenCV.
FACES = ("largest", "all")


def _inpaint(
    context: Context,
    image: Floats,
    mask: Floats,
    method: str,
    grow: int,
    feather: int,
    seed: int,
) -> Output:
    import cv2

    from atelier.engine.retouch.filling import fill, smooth

    masks = _masks_for(mask, image)
    result = image.copy()
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * grow + 1, 2 * grow + 1))
    for index, (source, selected, target) in enumerate(zip(image, masks, result, strict=True)):
        marked = (selected > _SELECTED).astype(np.uint8)
        if not marked.any():
            raise ValueError("The mask selects nothing; paint over what is to be filled")
        # The soft rim lies inside of what is grown, so that nothing marked shows through.
        hole = cv2.dilate(marked, kernel) > 0
        if hole.all():
            raise ValueError("The mask selects the whole picture; leave something to fill from")
        rgb = to_bytes(source[..., :3])
        report = _counter(context, index, len(image))
        if method == "patches":
            filled = fill(rgb, hole, seed, on_step=report, on_preview=context.preview)
        else:
            filled = smooth(rgb, hole)
            report(1, 1)
        share = _soft_rim(hole, marked > 0, feather)[..., None]
        mixed = source[..., :3] + (from_bytes(filled) - source[..., :3]) * share
        target[..., :3] = np.where(share > 0, mixed, source[..., :3])
    return Output(result)


def _soft_rim(hole: Mask, marked: Mask, feather: int) -> Floats:
    """Return 1 on what was marked, falling to 0 at the rim of the grown hole."""
    import cv2

    if feather == 0:
        return hole.astype(np.float32)
    depth = cv2.distanceTransform(hole.astype(np.uint8), cv2.DIST_L2, 3)
    return np.where(marked, 1, np.clip(depth / (feather + 1), 0, 1)).astype(np.float32)


def _remove_background(
    context: Context, image: Floats, margin: int, feather: int, subject: Floats | None = None
) -> Output:
    from atelier.engine.retouch.cutting_out import STEPS, cut_out

    hints = None if subject is None else _masks_for(subject, image)
    result = np.empty((*image.shape[:3], 4), np.float32)
    for index, source in enumerate(image):
        report = _counter(context, index, len(image))

        def step(value: int, report: Callable[[int, int], None] = report) -> None:
            report(value, STEPS)

        hint = None if hints is None else hints[index]
        rgb = to_bytes(source[..., :3])
        result[index, ..., :3], result[index, ..., 3] = cut_out(
            rgb, hint, margin, feather, on_step=step
        )
    return Output(result, result[..., 3].copy())


def _swap_faces(
    context: Context, image: Floats, face: Floats, faces: str, strength: float
) -> Output:
    from atelier.engine.retouch.face_swapping import swap_faces

    giver = to_bytes(face[0, ..., :3])
    result = image.copy()
    for index, (source, target) in enumerate(zip(image, result, strict=True)):
        report = _counter(context, index, len(image))
        rgb = to_bytes(source[..., :3])
        swapped = swap_faces(
            rgb, giver, faces, strength, on_step=report, on_preview=context.preview
        )
        changed = (swapped != rgb).any(axis=2)
        target[changed, :3] = from_bytes(swapped[changed])
    return Output(result)


def _enlarge(
    context: Context, image: Floats, factor: float, detail: float, denoise: float
) -> Output:
    from atelier.engine.retouch.enlarging import enlarge, steps_for

    height, width = round(image.shape[1] * factor), round(image.shape[2] * factor)
    if width * height > _MOST_PIXELS:
        fitting = (_MOST_PIXELS / (image.shape[1] * image.shape[2])) ** 0.5
        raise ValueError(
            f"Enlarged {factor:g} times, the picture would have {width}x{height} pixels; "
            f"{_MOST_PIXELS // 1_000_000} megapixels are the most. "
            f"Choose a factor of at most {int(fitting * 100) / 100:g}"
        )
    require_memory(len(image), height, width, 3)
    result = np.empty((len(image), height, width, 3), np.float32)
    maximum = len(image) * steps_for(factor)
    done = 0

    def step() -> None:
        nonlocal done
        done += 1
        context.progress(done, maximum)

    for source, target in zip(image, result, strict=True):
        rgb = to_bytes(source[..., :3])
        large = enlarge(rgb, width, height, detail, denoise, on_step=step)
        target[:] = from_bytes(large)
    return Output(result)


def _adjust(context: Context, image: Floats, **sliders: float) -> Output:
    from atelier.engine.retouch.adjusting import Sliders, adjust

    wanted = Sliders(**sliders)  # type: ignore[arg-type]
    result = image.copy()
    for index, target in enumerate(result):
        target[..., :3] = adjust(np.ascontiguousarray(target[..., :3]), wanted)
        context.progress(index + 1, len(result))
    return Output(result)


def _counter(context: Context, index: int, count: int) -> Callable[[int, int], None]:
    """Return what tells the client of steps of picture ``index`` of ``count``."""

    def report(value: int, maximum: int) -> None:
        context.progress(index * maximum + value, count * maximum)

    return report


def _masks_for(masks: Floats, images: Floats) -> Floats:
    """Return a mask for each of ``images``, at their size; the last is used for what is left."""
    height, width = images.shape[1:3]
    fitted = resize_masks(masks, width, height)
    return fitted[[min(index, len(fitted) - 1) for index in range(len(images))]]


def _slider(low: float = -1.0) -> Input:
    return number(0.0, low, 1.0, 0.01)


NODES = (
    NodeClass(
        name="AtelierInpaint",
        display_name="Inpaint",
        category=_CATEGORY,
        module=_MODULE,
        description=(
            "Fills the masked part from the rest of the picture, without a model: patches for "
            "large holes, smooth for scratches and wires."
        ),
        required={
            "image": IMAGE,
            "mask": MASK,
            "method": choice("patches", "smooth"),
            "grow": integer(6, 0, 256),
            "feather": integer(6, 0, 128),
            "seed": integer(0, 0, _LARGEST_SEED, control_after_generate=True),
        },
        outputs=("IMAGE",),
        run=_inpaint,
        contextual=True,
    ),
    NodeClass(
        name="AtelierRemoveBackground",
        display_name="Remove Background",
        category=_CATEGORY,
        module=_MODULE,
        description=(
            "Cuts out what stands out from the background, with a soft edge, without a model. "
            "A mask over the subject helps where the picture is busy."
        ),
        required={
            "image": IMAGE,
            "margin": integer(0, -64, 64),
            "feather": integer(1, 0, 64),
        },
        optional={"subject": MASK},
        outputs=("IMAGE", "MASK"),
        run=_remove_background,
        contextual=True,
    ),
    NodeClass(
        name="AtelierFaceSwap",
        display_name="Face Swap",
        category=_CATEGORY,
        module=_MODULE,
        description=(
            "Puts the face of one photo onto the faces of another, by the eyes and in the "
            "light of the second, without a model."
        ),
        required={
            "image": IMAGE,
            "face": IMAGE,
            "faces": choice(*FACES),
            "strength": number(1.0, 0.0, 1.0, 0.01),
        },
        outputs=("IMAGE",),
        run=_swap_faces,
        contextual=True,
    ),
    NodeClass(
        name="AtelierUpscale",
        display_name="Upscale",
        category=_CATEGORY,
        module=_MODULE,
        description="Enlarges a picture with crisp edges and no halos, without a model.",
        required={
            "image": IMAGE,
            "factor": number(2.0, 1.0, 8.0, 0.25),
            "detail": number(0.4, 0.0, 1.0, 0.01),
            "denoise": number(0.2, 0.0, 1.0, 0.01),
        },
        outputs=("IMAGE",),
        run=_enlarge,
        contextual=True,
    ),
    NodeClass(
        name="AtelierAdjust",
        display_name="Adjust",
        category=_CATEGORY,
        module=_MODULE,
        description="Changes light, colour and sharpness by sliders; 0 leaves them as they are.",
        required={
            "image": IMAGE,
            "auto_levels": Input("BOOLEAN", {"default": False}),
            "brightness": _slider(),
            "contrast": _slider(),
            "saturation": _slider(),
            "warmth": _slider(),
            "shadows": _slider(),
            "highlights": _slider(),
            "sharpness": _slider(),
            "vignette": _slider(low=0.0),
        },
        outputs=("IMAGE",),
        run=_adjust,
        contextual=True,
    ),
)
