"""What is known of a file that a workflow made."""

import io
import subprocess
import sys
import wave
from fractions import Fraction

import av
import numpy as np
import pytest
from PIL import Image

from atelier.media import describe, describe_output, kind_of
from atelier.media.film import FILMS, look_at


def film(container="mp4", codec="mpeg4", *, frames=6, fps=12, size=(64, 48)):
    out = io.BytesIO()
    with av.open(out, "w", format=container) as file:
        stream = file.add_stream(codec, rate=fps)
        stream.width, stream.height = size
        stream.pix_fmt = "yuv420p"
        red = np.zeros((size[1], size[0], 3), np.uint8)
        red[..., 0] = 220
        for number in range(frames):
            frame = av.VideoFrame.from_ndarray(red, format="rgb24")
            frame.pts, frame.time_base = number, Fraction(1, fps)
            file.mux(stream.encode(frame))
        file.mux(stream.encode(None))
    return out.getvalue()


def sound(seconds=0.5, rate=8000):
    out = io.BytesIO()
    with wave.open(out, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(rate)
        file.writeframes(b"\0\0" * int(seconds * rate))
    return out.getvalue()


def animation(format, *, frames=3, duration=100, size=(40, 30)):
    colors = [(50 * n, 255 - 50 * n, 90) for n in range(frames)]
    first, *others = [Image.new("RGB", size, color) for color in colors]
    out = io.BytesIO()
    first.save(out, format, save_all=True, append_images=others, duration=duration)
    return out.getvalue()


@pytest.mark.parametrize(
    ("media_type", "frames", "kind"),
    [
        ("image/png", None, "image"),
        ("image/png", 1, "image"),
        ("image/png", 4, "animation"),
        ("image/webp", 2, "animation"),
        ("image/jpeg", 3, "image"),  # further pictures of a multi-picture file are no movement
        ("image/svg+xml", None, "image"),
        ("video/mp4", 24, "video"),
        ("audio/flac", None, "audio"),
        ("text/plain", None, "text"),
        ("application/json", None, "text"),
        ("model/gltf-binary", None, "3d"),
        ("application/pdf", None, "file"),
        ("application/octet-stream", None, "file"),
    ],
)
def test_kind_follows_from_type_and_frames(media_type, frames, kind):
    assert kind_of(media_type, frames) == kind


@pytest.mark.parametrize(
    ("container", "codec", "name", "media_type"),
    [
        ("mp4", "mpeg4", "a.mp4", "video/mp4"),
        ("webm", "libvpx", "a.webm", "video/webm"),  # its header tells no number of frames
        ("mov", "mpeg4", "a.mov", "video/quicktime"),
        ("avi", "mpeg4", "a.avi", "video/x-msvideo"),
    ],
)
async def test_video_tells_its_length_and_shows_its_first_frame(container, codec, name, media_type):
    made = await describe_output(film(container, codec), name)
    assert (made.media_type, made.kind) == (media_type, "video")
    assert (made.width, made.height, made.frames) == (64, 48, 6)
    assert made.fps == pytest.approx(12, rel=0.05)
    assert made.duration_seconds == pytest.approx(0.5, abs=0.1)
    shown = Image.open(io.BytesIO(made.thumbnail.data)).convert("RGB")
    assert shown.size == (64, 48)
    assert shown.getpixel((30, 20))[0] > 150
    assert made.thumbnail.thumbhash


async def test_sound_tells_its_length():
    made = await describe_output(sound(), "a.wav")
    assert (made.media_type, made.kind, made.duration_seconds) == ("audio/wav", "audio", 0.5)
    assert (made.width, made.frames, made.thumbnail) == (None, None, None)


@pytest.mark.parametrize("format", ["GIF", "WEBP", "PNG", "AVIF"])
async def test_animation_tells_its_length(format):
    made = await describe_output(animation(format), f"a.{format.lower()}")
    assert (made.kind, made.frames, made.width, made.height) == ("animation", 3, 40, 30)
    assert made.duration_seconds == pytest.approx(0.3)
    assert made.fps == pytest.approx(10)
    assert made.thumbnail is not None


async def test_still_picture_has_no_frames():
    made = await describe_output(animation("WEBP", frames=1), "a.webp")
    assert (made.kind, made.frames, made.duration_seconds) == ("image", None, None)


@pytest.mark.parametrize("container", ["mp4", "webm", "avi"])
async def test_damaged_video_is_still_described(container):
    whole = film(container, "libvpx" if container == "webm" else "mpeg4")
    for data in (whole[: len(whole) // 2], whole[:40], whole[:40] + b"\xff" * 500):
        made = await describe_output(data, f"a.{container}")
        assert made.kind == "video"
        assert made.size_bytes == len(data)


@pytest.mark.parametrize("media_type", sorted(FILMS))
def test_every_demuxer_that_is_named_is_there(media_type):
    assert look_at(b"nothing of the kind", media_type, max_pixels=10**6).first is None


async def test_videos_from_outside_are_not_looked_into():
    made = await describe(film(), "upload")
    assert (made.media_type, made.width, made.thumbnail) == ("video/mp4", None, None)


async def test_picture_larger_than_is_decoded_still_has_its_size(monkeypatch):
    data = animation("PNG", frames=1, size=(300, 200))
    made = await describe(data, "a.png", max_pixels=1000)
    assert (made.width, made.height, made.thumbnail) == (300, 200, None)


async def test_drawing_is_not_rendered():
    made = await describe_output(b"<svg xmlns='http://www.w3.org/2000/svg'/>", "a.svg")
    assert (made.media_type, made.kind, made.thumbnail) == ("image/svg+xml", "image", None)


@pytest.mark.parametrize(
    ("data", "name", "media_type"),
    [
        (b"PK\x03\x04model", "a.usdz", "model/vnd.usdz+zip"),
        (b"PK\x03\x04model", "a.zip", "application/zip"),
        (b"\x00\x01splats", "a.splat", "model/x-splat"),
        (b"solid cube", "a.stl", "model/stl"),
    ],
)
async def test_3d_files_are_known_by_their_names(data, name, media_type):
    made = await describe_output(data, name)
    assert made.media_type == media_type


def test_libraries_for_videos_are_loaded_with_the_first_one_only():
    code = "import atelier.media, sys; sys.exit('av' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
