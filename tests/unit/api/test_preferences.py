import pytest

from atelier.api.preferences import MAX_WAIT_SECONDS, preferences, preferred_language


@pytest.mark.parametrize(
    ("prefer", "seconds"),
    [
        (None, None),
        ("", None),
        ("wait=30", 30),
        ("wait = 30", 30),
        ('wait="30"', 30),
        ("respond-async, wait=10", 10),
        ("WAIT=5", 5),
        ("wait=5; foo", 5),
        ("wait=0", 0),
        ("wait=100000", MAX_WAIT_SECONDS),
        ("wait=" + "9" * 400, MAX_WAIT_SECONDS),  # too long for a float
        ("wait=-1", None),
        ("wait=soon", None),
        ("wait=²", None),
        ("wait", None),
    ],
)
def test_wait_is_read_from_prefer(prefer, seconds):
    assert preferences(prefer, None).wait_seconds == seconds


@pytest.mark.parametrize(
    ("accept", "picture"),
    [
        (None, False),
        ("*/*", False),
        ("application/json", False),
        ("image/*", True),
        ("image/png;q=0.9, */*", True),
        ("IMAGE/WEBP", True),
        ("text/html,image/avif", False),  # a browser's page request
    ],
)
def test_picture_is_wanted_when_it_comes_first(accept, picture):
    assert preferences(None, accept).picture is picture


def test_picture_waits_a_minute_unless_told_otherwise():
    assert preferences(None, "image/*").wait_seconds == 300
    assert preferences("wait=5", "image/*").wait_seconds == 5


@pytest.mark.parametrize(
    ("accept", "format"),
    [
        ("image/webp", "webp"),
        ("Image/AVIF;q=0.9, image/*", "avif"),
        ("image/*", None),
        ("image/gif", None),  # a picture, but nothing is made one
        ("text/html,image/webp", None),
        (None, None),
    ],
)
def test_format_is_wanted_when_it_comes_first(accept, format):
    assert preferences(None, accept).picture_format == format


@pytest.mark.parametrize(
    ("accept", "language"),
    [
        (None, "en"),
        ("", "en"),
        ("*", "en"),
        ("fr-FR, de;q=0.9", "en"),
        ("zh", "zh-Hans"),
        ("zh-CN,zh;q=0.9,en;q=0.8", "zh-Hans"),
        ("zh-TW,zh;q=0.9,en;q=0.8", "zh-Hant"),
        ("zh-Hant-HK", "zh-Hant"),
        ("zh-Hans-HK", "zh-Hans"),
        ("en;q=0.5, zh-HK;q=0.7", "zh-Hant"),
        ("zh;q=0, en;q=0.1", "en"),
        ("zh;q=nonsense", "en"),
        ("fr, zh-TW;q=0.3", "zh-Hant"),
    ],
)
def test_language_is_the_one_liked_best_of_those_there_are(accept, language):
    assert preferred_language(accept) == language
