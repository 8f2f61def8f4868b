import pytest

from atelier.events import EVENT_TYPES, TERMINAL_TYPES, Event, event


def test_event_has_builder_for_every_type():
    assert all(callable(getattr(event, event_type)) for event_type in EVENT_TYPES)


@pytest.mark.parametrize(
    ("text", "order"),
    [
        ("1700-3", (1700, 3)),
        ("0-0", (0, 0)),
        ("", None),
        (None, None),
        ("1700", None),
        ("1700-", None),
        ("-3", None),
        ("a-b", None),
        ("1700-3-4-5", None),
        ("1700-3-f00d", (1700, 3)),
        ("1-²", None),  # a digit to str.isdigit, not to int
        ("9" * 5000 + "-0", None),  # int() refuses, and so must we, without raising
    ],
)
def test_event_id_is_parsed_or_refused_without_raising(text, order):
    assert event.parse_id(text) == order


def test_preview_carries_picture_as_data_uri():
    told = event.preview("j", "u", image=b"\xff\xd8", media_type="image/jpeg", node="3")
    assert told.data == {
        "media_type": "image/jpeg",
        "image": "data:image/jpeg;base64,/9g=",
        "node": "3",
    }


def test_snapshot_ends_a_stream_exactly_when_its_job_has_ended():
    ends = {
        status: event.snapshot("j", "u", status=status, progress={"percent": 0}).ends
        for status in ("queued", "running", "succeeded", "failed", "cancelled")
    }
    assert ends == {
        "queued": False,
        "running": False,
        "succeeded": True,
        "failed": True,
        "cancelled": True,
    }


def test_terminal_types_end_and_others_do_not():
    assert {t for t in EVENT_TYPES if Event(t, "j", "u").ends} == TERMINAL_TYPES


def test_event_is_encoded_once_per_form():
    calls = []

    def encode(told):
        calls.append(told.type)
        return b"x"

    told = event.cancelled("j", "u")
    assert [told.encoded(form, encode) for form in ("sse", "sse", "socket", "sse")] == [b"x"] * 4
    assert len(calls) == 2


def test_stamping_forgets_what_was_encoded_before():
    told = event.cancelled("j", "u")
    told.encoded("sse", lambda e: e.id.encode())
    assert told.stamped("5-0", 5).encoded("sse", lambda e: e.id.encode()) == b"5-0"
