"""Nodes that make videos of pictures and save them."""

import contextlib
import json
import secrets
from collections.abc import Mapping
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

from atelier.engine.nodes.frames import Images, Video, each_picture
from atelier.engine.nodes.node import Context, Input, NodeClass, Output

_CATEGORY = "image/video"
_MODULE = "comfy_extras.nodes_video"
_METADATA = {"prompt": "PROMPT", "extra_pnginfo": "EXTRA_PNGINFO"}
_FRAMES_BETWEEN_PREVIEWS = 12


def _create(images: Images, fps: float, audio: Any = None) -> Output:
    if audio is not None:
        raise ValueError("This engine has no sound; leave the input 'audio' unconnected")
    return Output(Video(images, Fraction(round(fps * 1000), 1000)))


def _save(context: Context, video: Video, filename_prefix: str, format: str, codec: str) -> Output:
    # The choices of format and codec come to the same: MP4 and H.264 are all there is.
    return _write(
        context,
        video,
        filename_prefix,
        ".mp4",
        "h264",
        "yuv420p",
        {"preset": "veryfast", "crf": "20"},
    )


def _save_webm(
    context: Context, images: Images, filename_prefix: str, codec: str, fps: float, crf: float
) -> Output:
    name, pixels, options = {
        "vp9": ("libvpx-vp9", "yuv420p", {"row-mt": "1", "deadline": "good", "cpu-used": "5"}),
        "av1": ("libsvtav1", "yuv420p10le", {"preset": "8"}),
    }[codec]
    video = Video(images, Fraction(round(fps * 1000), 1000))
    options = {**options, "crf": str(round(crf))}
    return _write(context, video, filename_prefix, ".webm", name, pixels, options)


def _write(
    context: Context,
    video: Video,
    prefix: str,
    suffix: str,
    encoder: str,
    pixels: str,
    options: Mapping[str, str],
) -> Output:
    height, width = video.images.shape[1:3]
    slot = context.folders.next_slot("output", prefix, width, height, 1)
    name = slot.filename(0, suffix)
    path = slot.directory / name
    partial = path.with_name(f".{secrets.token_hex(8)}.part{suffix}")
    try:
        _encode(context, video, partial, encoder, pixels, options)
        partial.replace(path)
    finally:
        with contextlib.suppress(FileNotFoundError):
            partial.unlink()
    file = {"filename": name, "subfolder": slot.subfolder, "type": "output"}
    return Output(ui={"images": [file], "animated": (True,)})


def _encode(
    context: Context,
    video: Video,
    path: Path,
    encoder: str,
    pixels: str,
    options: Mapping[str, str],
) -> None:
    import av

    count, height, width, _ = video.images.shape
    # Colour has half the resolution of light in these formats, so sides must be even.
    even_height, even_width = height - height % 2, width - width % 2
    if not even_height or not even_width:
        raise ValueError(f"A video needs at least 2x2 pixels, got {width}x{height}")
    # Without the flag MP4 drops metadata of names that it doesn't know.
    container = {"movflags": "use_metadata_tags+faststart"} if path.suffix == ".mp4" else {}
    with av.open(str(path), "w", options=container) as file:
        metadata = {"prompt": context.prompt, **context.extra_pnginfo}
        file.metadata.update({key: json.dumps(value) for key, value in metadata.items()})
        stream = file.add_stream(encoder, rate=video.fps, options=dict(options))
        assert isinstance(stream, av.VideoStream)
        stream.width, stream.height, stream.pix_fmt = even_width, even_height, pixels
        if encoder != "h264":
            stream.bit_rate = 0
        for number, picture in enumerate(each_picture(video.images), start=1):
            rgb = np.ascontiguousarray(picture[:even_height, :even_width, :3])
            frame = av.VideoFrame.from_ndarray(rgb, format="rgb24")
            file.mux(stream.encode(frame))
            context.progress(number, count)
            if number % _FRAMES_BETWEEN_PREVIEWS == 1:
                context.preview(rgb)
        file.mux(stream.encode(None))


def _choice(tooltip: str, default: str, *names: str) -> Input:
    options = {"tooltip": tooltip, "default": default, "multiselect": False, "options": list(names)}
    return Input("COMBO", options)


NODES = (
    NodeClass(
        name="CreateVideo",
        display_name="Create Video",
        category=_CATEGORY,
        module=_MODULE,
        schema=3,
        description="Create a video from images.",
        required={
            "images": Input("IMAGE", {"tooltip": "The images to create a video from."}),
            "fps": Input("FLOAT", {"default": 30.0, "min": 1.0, "max": 120.0, "step": 1.0}),
        },
        optional={"audio": Input("AUDIO", {"tooltip": "The audio to add to the video."})},
        outputs=("VIDEO",),
        run=_create,
        takes_frames=True,
    ),
    NodeClass(
        name="SaveVideo",
        display_name="Save Video",
        category=_CATEGORY,
        module=_MODULE,
        schema=3,
        description="Saves the input images to your ComfyUI output directory.",
        required={
            "video": Input("VIDEO", {"tooltip": "The video to save."}),
            "filename_prefix": Input(
                "STRING",
                {
                    "default": "video/ComfyUI",
                    "multiline": False,
                    "tooltip": (
                        "The prefix for the file to save. This may include formatting information "
                        "such as %date:yyyy-MM-dd% or %Empty Latent Image.width% to include values "
                        "from nodes."
                    ),
                },
            ),
            "format": _choice("The format to save the video as.", "auto", "auto", "mp4"),
            "codec": _choice("The codec to use for the video.", "auto", "auto", "h264"),
        },
        hidden=_METADATA,
        outputs=(),
        output_node=True,
        run=_save,
        contextual=True,
    ),
    NodeClass(
        name="SaveWEBM",
        category=_CATEGORY,
        module=_MODULE,
        schema=3,
        experimental=True,
        required={
            "images": Input("IMAGE", {}),
            "filename_prefix": Input("STRING", {"default": "ComfyUI", "multiline": False}),
            "codec": Input("COMBO", {"multiselect": False, "options": ["vp9", "av1"]}),
            "fps": Input("FLOAT", {"default": 24.0, "min": 0.01, "max": 1000.0, "step": 0.01}),
            "crf": Input(
                "FLOAT",
                {
                    "default": 32.0,
                    "min": 0,
                    "max": 63.0,
                    "step": 1,
                    "tooltip": (
                        "Higher crf means lower quality with a smaller file size, lower crf means "
                        "higher quality higher filesize."
                    ),
                },
            ),
        },
        hidden=_METADATA,
        outputs=(),
        output_node=True,
        run=_save_webm,
        contextual=True,
        takes_frames=True,
    ),
)
