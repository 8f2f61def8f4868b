"""Nodes that save pictures as one animated picture."""

import io
import json
from typing import Any

from PIL import Image, PngImagePlugin

from atelier.engine.folders import write_atomically
from atelier.engine.nodes.frames import Images, each_picture
from atelier.engine.nodes.node import Context, Input, NodeClass, Output, integer, number
from atelier.engine.nodes.pictures import open_bytes

_CATEGORY = "image/animation"
_MODULE = "comfy_extras.nodes_images"
_METADATA = {"prompt": "PROMPT", "extra_pnginfo": "EXTRA_PNGINFO"}
# Pillow holds all frames until it has written the last one.
_MOST_BYTES = 1024**3
_METHODS = {"default": 4, "fastest": 0, "slowest": 6}
_EXIF_MODEL, _EXIF_MAKE = 0x0110, 0x010F


def _save_webp(
    context: Context,
    images: Images,
    filename_prefix: str,
    fps: float,
    lossless: bool,
    quality: int,
    method: str,
) -> Output:
    pictures = _pictures(context, images)
    metadata = pictures[0].getexif()
    metadata[_EXIF_MODEL] = f"prompt:{json.dumps(context.prompt)}"
    for offset, (name, value) in enumerate(context.extra_pnginfo.items()):
        metadata[_EXIF_MAKE - offset] = f"{name}:{json.dumps(value)}"
    options = {
        "exif": metadata,
        "lossless": lossless,
        "quality": quality,
        "method": _METHODS[method],
    }
    file = _write(context, images, filename_prefix, fps, "webp", pictures, options)
    return Output(ui={"images": [file], "animated": (images.shape[0] != 1,)})


def _save_png(
    context: Context, images: Images, filename_prefix: str, fps: float, compress_level: int
) -> Output:
    metadata = PngImagePlugin.PngInfo()
    told = {"prompt": context.prompt, **context.extra_pnginfo}
    for key, value in told.items():
        text = key.encode("latin-1") + b"\0" + json.dumps(value).encode("latin-1")
        metadata.add(b"comf", text, after_idat=True)
    pictures = _pictures(context, images)
    options = {"pnginfo": metadata, "compress_level": compress_level}
    file = _write(context, images, filename_prefix, fps, "png", pictures, options)
    return Output(ui={"images": [file], "animated": (True,)})


def _pictures(context: Context, images: Images) -> list[Image.Image]:
    """Return the pictures as Pillow's; the client is told when one is encoded."""
    count, height, width, channels = images.shape
    if count * height * width * channels > _MOST_BYTES:
        raise MemoryError(
            f"An animation of {count} pictures of {width}x{height} is too large to be put "
            "together; use fewer or smaller ones, or save a video"
        )
    return [
        _watched(context, open_bytes(picture), number_taken, count)
        for number_taken, picture in enumerate(each_picture(images), start=1)
    ]


def _watched(context: Context, picture: Image.Image, number_taken: int, count: int) -> Image.Image:
    # Pillow seeks in each picture before it encodes it: the only place to stop it.
    def seek(frame: int) -> None:
        if frame == 0:
            context.progress(number_taken, count)
        Image.Image.seek(picture, frame)

    picture.seek = seek  # type: ignore[method-assign]
    return picture


def _write(
    context: Context,
    images: Images,
    prefix: str,
    fps: float,
    kind: str,
    pictures: list[Image.Image],
    options: dict[str, Any],
) -> dict[str, str]:
    height, width = images.shape[1:3]
    slot = context.folders.next_slot("output", prefix, width, height, 1)
    name = slot.filename(0, f".{kind}")
    target = io.BytesIO()
    duration = int(1000.0 / fps)
    first, *others = pictures
    first.save(
        target, kind.upper(), save_all=True, duration=duration, append_images=others, **options
    )
    context.check_interrupted()
    write_atomically(slot.directory / name, target.getbuffer())
    return {"filename": name, "subfolder": slot.subfolder, "type": "output"}


_PREFIX = Input("STRING", {"default": "ComfyUI"})
_FPS = number(6.0, 0.01, 1000.0, 0.01)

NODES = (
    NodeClass(
        name="SaveAnimatedWEBP",
        category=_CATEGORY,
        module=_MODULE,
        required={
            "images": Input("IMAGE"),
            "filename_prefix": _PREFIX,
            "fps": _FPS,
            "lossless": Input("BOOLEAN", {"default": True}),
            "quality": integer(80, 0, 100),
            "method": Input(tuple(_METHODS)),
        },
        hidden=_METADATA,
        outputs=(),
        output_node=True,
        run=_save_webp,
        contextual=True,
        takes_frames=True,
    ),
    NodeClass(
        name="SaveAnimatedPNG",
        category=_CATEGORY,
        module=_MODULE,
        required={
            "images": Input("IMAGE"),
            "filename_prefix": _PREFIX,
            "fps": _FPS,
            "compress_level": integer(4, 0, 9),
        },
        hidden=_METADATA,
        outputs=(),
        output_node=True,
        run=_save_png,
        contextual=True,
        takes_frames=True,
    ),
)
