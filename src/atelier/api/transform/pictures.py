"""Addresses of pictures that callers name."""

from urllib.parse import urlsplit

_MAX_URL_CHARACTERS = 8192


def checked_image_url(value: object) -> str:
    """The address, if it can be one of a picture. Raises ValueError saying what it must be.

    Whether anything answers there is found out when the task runs.
    """
    if not isinstance(value, str) or not value.strip():
        raise ValueError("must be the http, https or data: URL of a picture")
    url = value.strip()
    if url[:5].lower() == "data:":
        if "," not in url:
            raise ValueError("must have a comma between the type and the data of a data: URL")
        return url
    if len(url) > _MAX_URL_CHARACTERS:
        raise ValueError(f"may have at most {_MAX_URL_CHARACTERS} characters")
    try:
        parts = urlsplit(url)
        host = parts.hostname
        _ = parts.port  # raises where it isn't a number
    except ValueError:
        raise ValueError("isn't a URL that can be read") from None
    if parts.scheme not in ("http", "https"):
        raise ValueError(
            f"must begin with http://, https:// or data:, not with {parts.scheme or url[:20]!r}"
        )
    if not host:
        raise ValueError("has no host name")
    return url
