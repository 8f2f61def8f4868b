"""URLs as people write them into variables. Pure."""

import contextlib
from urllib.parse import urlsplit


def password_of(address: str) -> str:
    """The password within a URL as it is written there, or nothing."""
    with contextlib.suppress(ValueError):
        return urlsplit(address).password or ""
    return ""


def address_of(host: str, port: int) -> str:
    """The URL of an instance that is named by host, host:port or URL. Raises ValueError."""
    if "://" not in host:
        has_port = host.count(":") == 1 and host.rpartition(":")[2].isdigit()
        host = f"http://{host}" if has_port else f"http://{bracketed(host)}:{port}"
    url = host.rstrip("/")
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError(f"COMFYUI_HOST must be a host name or an http(s) URL, not {host!r}")
    return url


def bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host and not host.startswith("[") else host
