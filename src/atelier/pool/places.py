"""Addresses of instances: what may be one, and what to call it where several hosts share a pool."""

import re
from ipaddress import ip_address
from typing import Final
from urllib.parse import urlsplit

from atelier.comfy.transport import shown_url
from atelier.errors import InvalidRequest
from atelier.pool.instance import instance_id

NAME: Final = r"^[A-Za-z0-9][A-Za-z0-9._:@/\[\]-]{0,99}$"
LONGEST_URL: Final = 500
# Clouds give a machine's secrets to whoever asks there; no ComfyUI listens at these.
_REFUSED_NAMES: Final = ("metadata", "metadata.google.internal", "metadata.goog")


class InstanceUrlInvalid(InvalidRequest):
    """No ComfyUI can be reached at such an address."""

    code = "INSTANCE_URL_INVALID"
    default_hint = "Give the address as a browser on the workers' network would: http://host:8188."


def checked_url(url: str) -> str:
    """The address of an instance, without a slash at its end. Raises InstanceUrlInvalid.

    Addresses inside the network are what most instances have, so they are welcome; link-local
    ones, where clouds keep their metadata, are not.
    """
    if len(url) > LONGEST_URL or not url.isascii() or re.search(r"[\s\x00-\x1f\x7f\\]", url):
        raise InstanceUrlInvalid(
            f"An instance's address has at most {LONGEST_URL} printable ASCII characters.",
            field="url",
        )
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError:
        raise _invalid(url, "is not an address") from None
    if parts.scheme not in ("http", "https"):
        raise _invalid(url, "must begin with http:// or https://")
    if not host or port == 0:
        raise _invalid(url, "names no host" if not host else "names the port 0")
    if parts.query or parts.fragment:
        raise _invalid(url, "must not have a query or a fragment")
    if _is_refused(host):
        raise _invalid(url, "points at a link-local, metadata or multicast address")
    return url.rstrip("/")


def is_loopback(url: str) -> bool:
    """True for an address that means the machine itself, whichever that is."""
    host = urlsplit(url).hostname or ""
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        address = ip_address(host)
    except ValueError:
        return False
    return address.is_loopback or address.is_unspecified


def place_of(url: str, *, host: str, shared: bool) -> tuple[str, str | None]:
    """The id of the instance at ``url``, and the host that it is bound to, if any.

    ``host`` is this machine; ``shared``: other machines may use the same database, where another
    instance may have the same loopback address.
    """
    id = instance_id(url)
    if not is_loopback(url):
        return id, None
    return (f"{id}@{host}" if shared else id), host


def _invalid(url: str, what: str) -> InstanceUrlInvalid:
    try:
        shown = shown_url(url)
    except ValueError:
        shown = "the address"
    return InstanceUrlInvalid(f"{shown} {what}.", field="url")


def _is_refused(host: str) -> bool:
    if host.rstrip(".") in _REFUSED_NAMES:
        return True
    try:
        address = ip_address(host)
    except ValueError:
        return False
    mapped = getattr(address, "ipv4_mapped", None) or address
    return bool(mapped.is_link_local or mapped.is_multicast) or str(mapped) == "fd00:ec2::254"
