import json
import struct
from pathlib import Path

import pytest

from atelier.comfy.protocol import (
    Executed,
    Executing,
    ExecutionCached,
    ExecutionError,
    ExecutionInterrupted,
    FileRef,
    Preview,
    Progress,
    ProtocolError,
    Status,
    TextFrame,
    Unknown,
    decode_binary,
    decode_text,
    encode_preview,
    encode_text,
    files_of,
    parse_json,
    texts_of,
)

SESSIONS = sorted(path.stem for path in (Path(__file__).parents[2] / "golden").glob("*.jsonl"))


@pytest.mark.parametrize("name", SESSIONS)
def test_every_recorded_text_frame_survives_decoding_and_encoding(golden, name):
    frames = [event["text"] for event in golden(name) if "text" in event]
    assert frames
    for frame in frames:
        message = decode_text(frame)
        assert not isinstance(message, Unknown)
        assert json.loads(encode_text(message)) == json.loads(frame)


@pytest.mark.parametrize("name", SESSIONS)
def test_every_recorded_binary_frame_is_a_whole_picture(golden, name):
    for event in golden(name):
        if "binary" in event:
            preview = decode_binary(event["binary"])
            assert isinstance(preview, Preview)
            magic = {"image/jpeg": b"\xff\xd8\xff", "image/png": b"\x89PNG"}[preview.media_type]
            assert preview.image.startswith(magic)


def test_preview_with_metadata_names_prompt_and_node(golden):
    frames = [e["binary"] for e in golden("text_to_image_previews_metadata") if "binary" in e]
    preview = decode_binary(frames[0])
    assert isinstance(preview, Preview)
    assert (preview.prompt_id, preview.node) == ("1a4d5018-12f1-4016-a1f7-47238be8a4ff", "3")
    assert decode_binary(encode_preview(preview, with_metadata=True)) == preview


def test_preview_without_metadata_survives_encoding(golden):
    frame = next(e["binary"] for e in golden("text_to_image_steps") if "binary" in e)
    preview = decode_binary(frame)
    assert isinstance(preview, Preview)
    assert preview.prompt_id is None
    assert encode_preview(preview, with_metadata=False) == frame


def test_text_frame_splits_node_from_text():
    assert decode_binary(struct.pack(">II", 3, 2) + b"12" + "fünf".encode()) == TextFrame(
        "12", "fünf"
    )


@pytest.mark.parametrize(
    ("frame", "expected"),
    [
        # the greeting after a reconnect names no prompt
        ('{"type": "executing", "data": {"node": "3"}}', Executing(None, "3")),
        ('{"type": "executing", "data": {"node": null, "prompt_id": "p"}}', Executing("p", None)),
        ('{"type": "status", "data": {"sid": "s"}}', Status(None, "s")),
        (
            '{"type": "progress", "data": {"value": 1, "max": 4, "prompt_id": null, "node": null}}',
            Progress(None, None, 1, 4),
        ),
        # custom nodes send messages of their own
        ('{"type": "crystools.monitor", "data": [1]}', Unknown("crystools.monitor", [1])),
        ('{"type": "bare"}', Unknown("bare", None)),
        # ComfyUI keeps node ids as the graph spells them
        (
            '{"type": "execution_cached", "data": {"nodes": [4], "prompt_id": "p"}}',
            ExecutionCached("p", ("4",)),
        ),
        # a node without anything to show
        (
            '{"type": "executed", "data": {"node": "9", "output": null, "prompt_id": "p"}}',
            Executed("p", "9", None),
        ),
        (
            '{"type": "execution_interrupted", "data": {"prompt_id": "p"}}',
            ExecutionInterrupted("p", None, None),
        ),
    ],
)
def test_unusual_frames_are_understood(frame, expected):
    assert decode_text(frame) == expected


def test_error_carries_type_message_and_traceback(golden):
    errors = [
        decode_text(e["text"])
        for e in golden("execution_error")
        if "text" in e and "execution_error" in json.loads(e["text"])["type"]
    ]
    (error,) = errors
    assert isinstance(error, ExecutionError)
    assert error.exception_type == "PIL.UnidentifiedImageError"
    assert (error.node_id, error.node_type) == ("1", "LoadImage")
    assert error.traceback


@pytest.mark.parametrize(
    "frame",
    ["", "[]", "{}", "nonsense", '{"type": 3}', '{"type": "executing", "data": null}',
     '{"type": "progress_state", "data": {"prompt_id": "p", "nodes": {"1": {}}}}'],
)  # fmt: skip
def test_malformed_text_is_a_protocol_error(frame):
    with pytest.raises(ProtocolError):
        decode_text(frame)


@pytest.mark.parametrize(
    "frame",
    [b"", b"\0\0", b"\0\0\0\1", struct.pack(">II", 3, 9) + b"1", struct.pack(">II", 4, 1) + b"{",
     struct.pack(">II", 4, 2) + b"[]"],
)  # fmt: skip
def test_binary_frame_cut_short_is_a_protocol_error(frame):
    with pytest.raises(ProtocolError):
        decode_binary(frame)


def test_unknown_binary_event_keeps_its_number():
    assert decode_binary(b"\0\0\0\x07xyz") == Unknown("binary:7", b"xyz")


def test_not_a_number_is_read_as_python_writes_it():
    assert parse_json('{"a": Infinity}') == {"a": float("inf")}


def test_whole_numbers_of_any_size_can_be_sent():
    message = Unknown("seed", {"seed": 2**70})
    assert json.loads(encode_text(message))["data"]["seed"] == 2**70


def test_binary_messages_do_not_travel_as_text():
    with pytest.raises(TypeError):
        encode_text(Preview(b"", "image/png"))


def test_files_of_an_output_keep_kind_and_order():
    output = {
        "images": [{"filename": "a.png", "subfolder": "s", "type": "temp"}, {"filename": "b.png"}],
        "gifs": [{"filename": "c.mp4", "subfolder": "", "type": "output", "format": "video/mp4"}],
        "animated": [True],
        "text": ["hello"],
        "3d": [{"filename": "d.glb", "subfolder": "3d", "type": "output"}],
    }
    assert files_of(output) == (
        ("images", FileRef("a.png", "s", "temp")),
        ("images", FileRef("b.png", "", "output")),
        ("gifs", FileRef("c.mp4")),
        ("3d", FileRef("d.glb", "3d")),
    )
    assert texts_of(output) == ("hello",)


@pytest.mark.parametrize(
    ("text", "expected"),
    [("one", ("one",)), (["a", 2, "b"], ("a", "b")), (None, ()), (7, ())],
)
def test_texts_of_an_output_may_be_one_or_many(text, expected):
    assert texts_of({"text": text}) == expected
