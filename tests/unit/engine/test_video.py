"""Still pictures set in motion, and what is saved of them."""

import json

import av
import numpy as np
import pytest
from PIL import Image

from atelier.engine.executor import Interrupted
from atelier.engine.nodes import moving
from atelier.engine.nodes.frames import Frames
from atelier.engine.retouch.motion import Camera, frame_size, view


def move(context, image, **changes):
    inputs = {"motion": "zoom_in", "seconds": 0.5, "fps": 12.0, "amount": 0.5, "max_size": 64}
    (frames,) = context.run("AtelierMotion", image=image, **(inputs | changes))
    return frames


@pytest.fixture
def spot():
    """A bright spot in the middle of a dark, soft ground, 1x80x120x3."""
    y, x = np.mgrid[0:80, 0:120].astype(np.float32)
    light = np.exp(-(((x - 60) ** 2 + (y - 40) ** 2) / 200))
    return np.repeat((0.1 + 0.8 * light)[..., None], 3, axis=2)[None].astype(np.float32)


def middle_of(frame):
    weights = frame[..., 0].astype(float) - frame.min()
    y, x = np.mgrid[0 : frame.shape[0], 0 : frame.shape[1]]
    return (x * weights).sum() / weights.sum(), (y * weights).sum() / weights.sum()


@pytest.mark.parametrize(
    ("size", "expected"),
    [
        ((1920, 1080), (1280, 720)),  # made smaller
        ((641, 333), (640, 332)),  # made even
        ((1, 1), (2, 2)),  # never nothing
    ],
)
def test_frames_are_even_and_never_larger_than_the_picture_needs(size, expected):
    assert frame_size(*size, 1280) == expected


@pytest.mark.parametrize("motion", moving.MOTIONS)
def test_camera_never_sees_past_the_picture(motion):
    white = np.full((90, 160, 3), 255, np.uint8)
    camera = Camera(white, motion, 1.0, 9, (160, 90))
    corners = np.array([[0, 0, 1], [159, 0, 1], [0, 89, 1], [159, 89, 1]], float).T
    for number in range(9):
        back = np.linalg.inv(camera._matrix(view(motion, 1.0, number / 8))) @ corners
        x, y = back[0] / back[2], back[1] / back[2]
        height, width = camera._source.shape[:2]
        assert (x > -1).all(), number
        assert (x < width).all(), number
        assert (y > -1).all(), number
        assert (y < height).all(), number


def test_zoom_makes_the_spot_larger_and_pans_move_it(context, spot):
    frames = move(context, spot)
    assert isinstance(frames, Frames)
    assert frames.shape == (6, 42, 64, 3)
    first, last = frames.render(0), frames.render(5)
    assert (last > 128).sum() > 1.3 * (first > 128).sum()
    assert np.array_equal(frames.render(3), frames.render(3))
    # What the camera moves away from goes the other way in the frame.
    for motion, axis, sign in (
        ("pan_left", 0, 1),
        ("pan_right", 0, -1),
        ("pan_up", 1, 1),
        ("pan_down", 1, -1),
    ):
        frames = move(context, spot, motion=motion)
        before, after = middle_of(frames.render(0)), middle_of(frames.render(5))
        assert (after[axis] - before[axis]) * sign > 3, motion
        assert abs(after[1 - axis] - before[1 - axis]) < 1, motion


def test_frames_take_no_memory_until_a_node_wants_them_whole(context, spot):
    frames = move(context, spot, seconds=20.0, fps=60.0, max_size=1280)
    assert frames.shape[0] == 1200
    assert frames.nbytes < 1_000_000
    few = move(context, spot)
    whole = few.whole()
    assert whole.dtype == np.float32
    assert np.array_equal((whole[2] * 255).round().astype(np.uint8), few.render(2))


def save_video(context, images, **changes):
    (video,) = context.run("CreateVideo", images=images, fps=12.0)
    inputs = {"filename_prefix": "video/clip", "format": "auto", "codec": "auto"} | changes
    (ui,) = context.run("SaveVideo", video=video, **inputs)
    return ui


def test_video_is_h264_in_mp4_with_the_frames_the_pace_and_the_workflow(context, folders, spot):
    frames = move(context, spot)
    context.steps.clear()
    ui = save_video(context, frames)
    assert ui == {
        "images": [{"filename": "clip_00001_.mp4", "subfolder": "video", "type": "output"}],
        "animated": (True,),
    }
    assert context.steps == [(number, 6) for number in range(1, 7)]
    with av.open(str(folders.root / "output" / "video" / "clip_00001_.mp4")) as file:
        stream = file.streams.video[0]
        assert (stream.codec.name, stream.width, stream.height) == ("h264", 64, 42)
        assert stream.average_rate == 12
        assert json.loads(file.metadata["prompt"]) == context.prompt
        shown = [frame.to_ndarray(format="rgb24") for frame in file.decode(stream)]
    assert len(shown) == 6
    assert np.abs(shown[5].astype(int) - frames.render(5)).mean() < 6


def test_odd_sides_lose_a_row_and_arrays_are_taken_too(context, folders):
    images = np.random.default_rng(0).random((3, 33, 41, 4), np.float32)
    ui = save_video(context, images, format="mp4", codec="h264")
    with av.open(str(folders.root / "output" / "video" / ui["images"][0]["filename"])) as file:
        assert (file.streams.video[0].width, file.streams.video[0].height) == (40, 32)


def test_interrupted_video_leaves_no_file(context, folders, spot):
    frames = move(context, spot)
    context.steps.clear()
    context.interrupt_after_steps = 2
    with pytest.raises(Interrupted):
        save_video(context, frames)
    assert not [path for path in (folders.root / "output").rglob("*") if path.is_file()]


def test_webm_is_saved(context, folders, spot):
    (ui,) = context.run(
        "SaveWEBM", images=move(context, spot), filename_prefix="a", codec="vp9", fps=8.0, crf=40.0
    )
    with av.open(str(folders.root / "output" / ui["images"][0]["filename"])) as file:
        assert file.streams.video[0].codec.name == "vp9"
        assert sum(1 for _ in file.decode(video=0)) == 6
    assert ui["animated"] == (True,)


WEBP = {"lossless": True, "quality": 80, "method": "fastest"}


@pytest.mark.parametrize(
    ("node", "options", "name"),
    [
        ("SaveAnimatedWEBP", WEBP, "a_00001_.webp"),
        ("SaveAnimatedPNG", {"compress_level": 4}, "a_00001_.png"),
    ],
)
def test_animation_has_every_frame_at_the_pace(context, folders, spot, node, options, name):
    frames = move(context, spot)
    context.steps.clear()
    (ui,) = context.run(node, images=frames, filename_prefix="a", fps=8.0, **options)
    assert ui == {
        "images": [{"filename": name, "subfolder": "", "type": "output"}],
        "animated": (True,),
    }
    assert {(1, 6), (6, 6)} <= set(context.steps)
    with Image.open(folders.root / "output" / name) as saved:
        assert saved.n_frames == 6
        saved.seek(4)
        assert np.array_equal(np.asarray(saved.convert("RGB")), frames.render(4))
        assert saved.info["duration"] == 125
    context.steps.clear()
    context.interrupt_after_steps = 3
    with pytest.raises(Interrupted):
        context.run(node, images=frames, filename_prefix="b", fps=8.0, **options)


def test_webp_of_one_picture_is_not_called_animated(context, photo):
    (ui,) = context.run("SaveAnimatedWEBP", images=photo, filename_prefix="a", fps=6.0, **WEBP)
    assert ui["animated"] == (False,)


def test_animation_past_the_limit_is_refused(context, spot):
    frames = Frames((5000, 1080, 1920, 3), lambda number: None, 0)
    with pytest.raises(MemoryError, match="save a video"):
        context.run("SaveAnimatedWEBP", images=frames, filename_prefix="a", fps=6.0, **WEBP)


def test_size_of_pictures_and_of_frames_is_told(context, photo, spot):
    assert context.run("GetImageSize", image=photo) == (60, 40, 1)
    assert context.run("GetImageSize", image=move(context, spot)) == (64, 42, 6)
