"""What a caller prefers: how long to wait (RFC 7240), and an answer as a picture."""

from dataclasses import dataclass

from atelier.media.conversion import FORMATS, Format

MAX_WAIT_SECONDS = 300
_PICTURE_WAIT_SECONDS = 300.0


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


def _wait(prefer: str) -> tuple[str | None, float | None]:
    for preference in prefer.split(","):
        name, _, value = preference.partition(";")[0].partition("=")
        digits = value.strip().strip('"')
        if name.strip().lower() == "wait" and digits.isascii() and digits.isdigit():
            seconds = min(int(digits[:9]), MAX_WAIT_SECONDS)
            return str(seconds), float(seconds)
    return None, None
