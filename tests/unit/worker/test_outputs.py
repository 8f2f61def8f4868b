"""What of a run counts as its result."""

import pytest

from atelier.comfy.client import Finished
from atelier.comfy.messages import Preview
from atelier.worker.outputs import items_of


def image(name, kind="output"):
    return {"filename": name, "subfolder": "", "type": kind}


def names(outputs, counting=(), images=()):
    return [item.filename for item in items_of(Finished("p", outputs, tuple(images)), counting)]


PNG = Preview(b"png", "image/png", "p", "7")


@pytest.mark.parametrize(
    ("outputs", "counting", "images", "expected"),
    [
        # nothing
        ({}, (), (), []),
        # saved files come before previews, which then don't count
        ({"1": {"images": [image("p.png", "temp")]}, "2": {"images": [image("o.png")]}}, (), (),
         ["o.png"]),
        # previews count where there is nothing else
        ({"1": {"images": [image("p.png", "temp")]}}, (), (), ["p.png"]),
        # a manifest names the nodes that count, in its order
        ({"1": {"images": [image("a.png")]}, "2": {"images": [image("b.png")]}}, ("2",), (),
         ["b.png"]),
        ({"1": {"images": [image("a.png")]}, "2": {"images": [image("b.png")]}}, ("2", "1"), (),
         ["b.png", "a.png"]),
        # where none of the named nodes delivered, whatever came counts
        ({"1": {"images": [image("a.png")]}}, ("9",), (), ["a.png"]),
        # videos and texts too
        ({"1": {"gifs": [image("a.mp4")]}, "2": {"text": ["hello"]}}, (), (), ["a.mp4", "0.txt"]),
        # pictures over the socket, of nodes that count
        ({}, (), (("7", PNG), ("7", PNG)), ["0.png", "1.png"]),
        ({}, ("7",), (("7", PNG), ("8", PNG)), ["0.png"]),
    ],
)  # fmt: skip
def test_what_counts(outputs, counting, images, expected):
    assert names(outputs, counting, images) == expected


def test_text_is_kept_as_bytes():
    (item,) = items_of(Finished("p", {"2": {"text": ["grüß"]}}), ())
    assert (item.node, item.data) == ("2", "grüß".encode())
