"""What of a run counts as its result."""

import pytest

from atelier.comfy.client import Finished
from atelier.comfy.messages import Preview
from atelier.worker.items import items_of


def image(name, kind="output"):
    return {"filename": name, "subfolder": "", "type": kind}


def names(outputs, counting=(), images=()):
    return [
        item.filename for item in items_of(Finished("p", outputs, tuple(images)), counting).results
    ]


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
        # texts count beside previews, and come behind files whatever the order
        ({"1": {"text": ["hello"]}, "2": {"images": [image("p.png", "temp")]}}, (), (),
         ["p.png", "0.txt"]),
        # unless somebody has named an order
        ({"1": {"text": ["hello"]}, "2": {"images": [image("o.png")]}}, ("1", "2"), (),
         ["0.txt", "o.png"]),
        # animated pictures, sounds and 3D files; latents, which nobody looks at, come last
        ({"1": {"images": [image("a.webp")], "animated": [True]},
          "2": {"latents": [image("l.latent")]}, "3": {"audio": [image("s.flac")]},
          "4": {"3d": [image("m.glb")]}}, (), (),
         ["a.webp", "s.flac", "m.glb", "l.latent"]),
        # a viewer shows the file that was saved: it counts once
        ({"1": {"3d": [image("m.glb")]}, "2": {"result": ["m.glb", None, ""]}}, (), (), ["m.glb"]),
        ({"2": {"result": ["mesh/m.glb", {"fov": 1}, None]}}, (), (), ["m.glb"]),
        # files that were there before are not made
        ({"1": {"images": [image("in.png", "input")]}, "2": {"images": [image("o.png")]}}, (), (),
         ["o.png"]),
        # pictures over the socket, of nodes that count
        ({}, (), (("7", PNG), ("7", PNG)), ["0.png", "1.png"]),
        ({}, ("7",), (("7", PNG), ("8", PNG)), ["0.png"]),
    ],
)  # fmt: skip
def test_what_counts(outputs, counting, images, expected):
    assert names(outputs, counting, images) == expected


def test_text_is_kept_as_bytes():
    (item,) = items_of(Finished("p", {"2": {"text": ["grüß"]}}), ()).results
    assert (item.node, item.data) == ("2", "grüß".encode())


@pytest.mark.parametrize(
    ("outputs", "counting", "expected"),
    [
        # shown beside what was saved
        ({"1": {"images": [image("p.png", "temp")]}, "2": {"images": [image("o.png")]}}, (),
         ["p.png"]),
        # nothing was saved: what was shown is the result
        ({"1": {"images": [image("p.png", "temp")]}}, (), []),
        # shown by a node that doesn't count; what such a node saved is nothing to anybody
        ({"1": {"images": [image("p.png", "temp")]}, "2": {"images": [image("o.png")]},
          "3": {"images": [image("x.png")]}}, ("2",), ["p.png"]),
        # compared pictures stand under keys of their own
        ({"1": {"a_images": [image("a.png", "temp")], "b_images": [image("b.png", "temp")]},
          "2": {"images": [image("o.png")]}}, (), ["a.png", "b.png"]),
    ],
)  # fmt: skip
def test_previews_stand_apart(outputs, counting, expected):
    made = items_of(Finished("p", outputs), counting)
    assert [item.filename for item in made.previews] == expected


def test_only_some_previews_are_kept():
    shown = [image(f"{n}.png", "temp") for n in range(100)]
    made = items_of(Finished("p", {"1": {"images": shown}, "2": {"images": [image("o.png")]}}), ())
    assert len(made.previews) == 16
