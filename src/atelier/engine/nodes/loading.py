"""Nodes that read pictures from the input and output folders."""

import hashlib
from typing import Any

import numpy as np
from PIL import Image, ImageOps, ImageSequence

from atelier.engine.folders import Folders, OutsideFolder, is_file
from atelier.engine.nodes.node import (
    Context,
    Floats,
    Input,
    NodeClass,
    Output,
    choice,
    require_memory,
)
from atelier.engine.nodes.pictures import from_bytes

MOST_PIXELS = 64_000_000  # what a node takes in; as floats that is 0.7 GiB
_NO_MASK = (64, 64)


def _load(context: Context, image: str) -> Output:
    pictures: list[Floats] = []
    masks: list[Floats] = []
    with _open(context.folders, image) as file:
        for frame in ImageSequence.Iterator(file):
            context.check_interrupted()
            upright = _upright(frame)
            if pictures and pictures[0].shape[:2] != (upright.height, upright.width):
                continue
            pictures.append(from_bytes(np.asarray(upright.convert("RGB"))))
            masks.append(_mask(upright))
            require_memory(len(pictures), *pictures[0].shape)
            # The further pictures of an MPO are a camera's previews and depth maps.
            if file.format == "MPO":
                break
    return Output(np.stack(pictures), np.stack(masks))


def _load_mask(context: Context, image: str, channel: str) -> Output:
    with _open(context.folders, image) as file:
        picture = _upright(file).convert("RGBA")
    levels = from_bytes(np.asarray(picture.getchannel(channel[0].upper())))
    return Output((1 - levels if channel == "alpha" else levels)[None])


def _open(folders: Folders, name: str) -> Image.Image:
    picture = Image.open(folders.find(name))
    if picture.width * picture.height > MOST_PIXELS:
        picture.close()
        raise Image.DecompressionBombError(
            f"{name} has {picture.width}x{picture.height} pixels; "
            f"{MOST_PIXELS // 1_000_000} megapixels are the most"
        )
    return picture


def _upright(picture: Image.Image) -> Image.Image:
    turned = ImageOps.exif_transpose(picture)
    if turned.mode == "P" and "transparency" in turned.info:
        return turned.convert("RGBA")
    # ComfyUI scales 32-bit pictures so; the conversion to RGB then cuts off.
    return turned.point(lambda level: level * (1 / 255)) if turned.mode == "I" else turned


def _mask(picture: Image.Image) -> Floats:
    if "A" not in picture.getbands():
        return np.zeros(_NO_MASK, np.float32)
    return 1 - from_bytes(np.asarray(picture.getchannel("A")))


def _content_hash(folders: Folders, image: str, **_: Any) -> str:
    with folders.find(image).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _check(folders: Folders, image: Any) -> str | None:
    try:
        if isinstance(image, str) and is_file(folders.find(image)):
            return None
    except OutsideFolder:
        pass
    return f"Invalid image file: {image}"


def _images(folders: Folders) -> list[str]:
    return folders.input_files(images_only=True)


def _files(folders: Folders) -> list[str]:
    return folders.input_files(images_only=False)


NODES = (
    NodeClass(
        name="LoadImage",
        display_name="Load Image",
        category="image",
        required={"image": Input(_images, {"image_upload": True})},
        outputs=("IMAGE", "MASK"),
        run=_load,
        contextual=True,
        fingerprint=_content_hash,
        check=_check,
        checked=("image",),
    ),
    NodeClass(
        name="LoadImageMask",
        display_name="Load Image (as Mask)",
        category="mask",
        required={
            "image": Input(_files, {"image_upload": True}),
            "channel": choice("alpha", "red", "green", "blue"),
        },
        outputs=("MASK",),
        run=_load_mask,
        contextual=True,
        fingerprint=_content_hash,
        check=_check,
        checked=("image",),
    ),
    NodeClass(
        name="LoadImageOutput",
        display_name="Load Image (from Outputs)",
        category="image",
        description=(
            "Load an image from the output folder. When the refresh button is clicked, the node "
            "will update the image list and automatically select the first image, allowing for "
            "easy iteration."
        ),
        experimental=True,
        required={
            "image": Input(
                "COMBO",
                {
                    "image_upload": True,
                    "image_folder": "output",
                    "remote": {
                        "route": "/internal/files/output",
                        "refresh_button": True,
                        "control_after_refresh": "first",
                    },
                },
            )
        },
        outputs=("IMAGE", "MASK"),
        run=_load,
        contextual=True,
        fingerprint=_content_hash,
        check=_check,
        checked=("image",),
    ),
)
