"""What a caller prefers: how long to wait (RFC 7240), an answer as a picture, a language."""

from dataclasses import dataclass

from atelier.media.conversion import FORMATS, Format

MAX_WAIT_SECONDS = 300
_PICTURE_WAIT_SECONDS = 300.0
LANGUAGES = ("en", "zh-Hans", "zh-Hant")
_TRADITIONAL = ("hant", "tw", "hk", "mo")


@dataclass(frozen=True, slots=True)
class Preferences:
    """``wait_seconds`` None: answer at once. ``wait`` is the preference as it is honoured.

    ``picture_format``: the answer is to be a picture of this format.
    """

    wait: str | None = None
    wait_seconds: float | None = None
    picture: bool = False
    picture_format: Format | None = None


def preferences(prefer: str | None, accept: str | None) -> Preferences:
    """Read the headers Prefer and Accept; what isn't understood is ignored, as RFC 7240 asks."""
    wait, seconds = _wait(prefer or "")
    first = (accept or "").partition(",")[0].partition(";")[0].strip().lower()
    picture = first.startswith("image/")
    if picture and seconds is None:
        seconds = _PICTURE_WAIT_SECONDS
    format = next((one for one in FORMATS if first == f"image/{one}"), None)
    return Preferences(wait, seconds, picture, format)


def preferred_language(accept_language: str | None) -> str:
    """The one of LANGUAGES that the header Accept-Language likes best; English where none fits."""
    best, language = 0.0, LANGUAGES[0]
    for entry in (accept_language or "").split(","):
        tag, _, parameters = entry.partition(";")
        quality = _quality(parameters)
        primary, *rest = tag.strip().lower().split("-")
        if quality <= best or primary not in ("en", "zh"):
            continue
        traditional = any(part in _TRADITIONAL for part in rest) and "hans" not in rest
        best = quality
        language = "en" if primary == "en" else "zh-Hant" if traditional else "zh-Hans"
    return language


def _quality(parameters: str) -> float:
    name, _, value = parameters.partition("=")
    if name.strip().lower() != "q":
        return 1.0
    try:
        return float(value)
    except ValueError:
        return 0.0


def _wait(prefer: str) -> tuple[str | None, float | None]:
    for preference in prefer.split(","):
        name, _, value = preference.partition(";")[0].partition("=")
        digits = value.strip().strip('"')
        if name.strip().lower() == "wait" and digits.isascii() and digits.isdigit():
            seconds = min(int(digits[:9]), MAX_WAIT_SECONDS)
            return str(seconds), float(seconds)
    return None, None
