"""JSON answers, encoded by orjson and without a second validation."""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import orjson
from fastapi.responses import Response

# Inputs of a stranger's graph may hold numbers as keys; they are still JSON objects to him.
_OPTIONS = orjson.OPT_NON_STR_KEYS


def encode(content: Any) -> bytes:
    return orjson.dumps(content, option=_OPTIONS)


def checked_plain(value: Any) -> Any:
    """``value`` if every database can keep it and give it back unchanged. Raises ValueError."""
    try:
        encoded = encode(value)
    except (TypeError, ValueError):
        raise ValueError(
            "must be plain JSON: whole numbers of at most 64 bits, text without lone surrogates"
        ) from None
    # Backslashes of the text itself are doubled, and out of the way.
    if b"\\u0000" in encoded.replace(b"\\\\", b""):
        raise ValueError("must not contain NUL characters")
    return value


class Json(Response):
    media_type = "application/json"

    def __init__(
        self, content: Any, status_code: int = 200, headers: Mapping[str, str] | None = None
    ) -> None:
        super().__init__(encode(content), status_code, headers)


def iso_time(milliseconds: int | None) -> str | None:
    """``2026-01-31T23:59:59.123Z``."""
    if milliseconds is None:
        return None
    moment = datetime.fromtimestamp(milliseconds / 1000, UTC)
    return moment.isoformat(timespec="milliseconds").removesuffix("+00:00") + "Z"
