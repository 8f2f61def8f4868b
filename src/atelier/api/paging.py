"""Cursors: opaque to callers, so that what pages are cut by may change."""

from base64 import urlsafe_b64decode, urlsafe_b64encode

from atelier.api.fields import FieldError
from atelier.api.problems import Refused, invalid

_MARK = b"c1:"


def to_cursor(position: str | None) -> str | None:
    if position is None:
        return None
    return urlsafe_b64encode(_MARK + position.encode()).decode("ascii").rstrip("=")


def from_cursor(cursor: str | None) -> str | None:
    """Raises Refused where ``cursor`` was never one of ours."""
    if cursor is None:
        return None
    try:
        raw = urlsafe_b64decode(cursor.encode("ascii") + b"=" * (-len(cursor) % 4))
        position = raw.removeprefix(_MARK).decode("ascii")
    except ValueError:
        raw, position = b"", ""
    if not raw.startswith(_MARK) or not position.isprintable():
        error = FieldError("cursor", "must be a next_cursor of an earlier page")
        raise Refused(invalid(error, hint="Leave cursor out to begin with the newest."))
    return position
