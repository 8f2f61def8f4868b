"""The language in which workflows are told."""

from typing import Annotated

from fastapi import Header

AcceptLanguage = Annotated[
    str | None, Header(description="`en`, `zh-Hans` (also `zh`, `zh-CN`) or `zh-Hant` (`zh-TW`).")
]


def in_language(language: str) -> dict[str, str]:
    """The headers of an answer in ``language``."""
    return {"Content-Language": language, "Vary": "Accept-Language"}
