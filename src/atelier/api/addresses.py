"""Where callers reach us, for the addresses in our answers."""

from fastapi.requests import HTTPConnection


def base_url(connection: HTTPConnection, public_url: str | None) -> str:
    """Where callers reach us, without a slash at the end."""
    if public_url:
        return public_url.rstrip("/")
    base = str(connection.base_url).rstrip("/")
    # A WebSocket knows its own scheme; pictures come over HTTP.
    return f"http{base[2:]}" if base.startswith("ws") else base


def absolute(url: str, base: str) -> str:
    return f"{base}{url}" if url.startswith("/") else url
