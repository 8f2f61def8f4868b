"""Our own node that makes a clip of a still picture."""

import numpy as np

from atelier.engine.nodes.frames import Frames
from atelier.engine.nodes.node import (
    IMAGE,
    Context,
    Floats,
    NodeClass,
    Output,
    choice,
    integer,
    number,
)
from atelier.engine.nodes.pictures import to_bytes

# Named here too, so that telling what nodes there are doesn't load OpenCV.
MOTIONS = ("zoom_in", "zoom_out", "pan_left", "pan_right", "pan_up", "pan_down", "orbit")
_PREVIEWS = 4


def _move(
    context: Context,
    image: Floats,
    motion: str,
    seconds: float,
    fps: float,
    amount: float,
    max_size: int,
) -> Output:
    from atelier.engine.retouch.motion import Camera, frame_size

    rgb = np.ascontiguousarray(to_bytes(image[0, ..., :3]))
    width, height = frame_size(rgb.shape[1], rgb.shape[0], max_size)
    count = max(1, round(seconds * fps))
    camera = Camera(rgb, motion, amount, count, (width, height))
    for number_shown in range(_PREVIEWS):
        context.preview(camera.frame(number_shown * (count - 1) // (_PREVIEWS - 1)))
        context.progress(number_shown + 1, _PREVIEWS)
    return Output(Frames((count, height, width, 3), camera.frame, camera.nbytes))


NODES = (
    NodeClass(
        name="AtelierMotion",
        display_name="Image to Motion",
        category="image/video",
        module="atelier",
        description=(
            "Moves a camera over a still picture. The frames go to Create Video or to a node "
            "that saves animations."
        ),
        required={
            "image": IMAGE,
            "motion": choice(*MOTIONS),
            "seconds": number(3.0, 0.5, 20.0, 0.1),
            "fps": number(24.0, 1.0, 60.0, 1.0),
            "amount": number(0.5, 0.0, 1.0, 0.01),
            "max_size": integer(1280, 64, 1920, step=2),
        },
        outputs=("IMAGE",),
        run=_move,
        contextual=True,
    ),
)
