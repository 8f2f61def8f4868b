"""``data:`` URLs: the bytes are in the address (RFC 2397)."""

import base64
import binascii
from urllib.parse import unquote_to_bytes

from atelier.media.rejections import NotAnImage
from atelier.outbound import UrlRefused

_WHITESPACE = dict.fromkeys(map(ord, " \t\r\n"))
_URLSAFE = str.maketrans("-_", "+/")


def decode_data_url(url: str) -> bytes:
    """The bytes in ``url``; what it says about their type is not looked at.

    Base64 may be of either alphabet, percent-encoded, broken into lines, unpadded.
    Raises UrlRefused where there is no comma, NotAnImage for bad base64.
    """
    header, comma, body = url.partition(",")
    if not comma:
        raise UrlRefused(
            "The data: address has no comma.", hint="Write data:image/png;base64,iVBORw0..."
        )
    if not header.lower().rstrip().endswith(";base64"):
        return unquote_to_bytes(body)
    if "%" in body:
        body = unquote_to_bytes(body).decode("latin-1")
    text = body.translate(_WHITESPACE).translate(_URLSAFE).rstrip("=")
    try:
        return base64.b64decode(text + "=" * (-len(text) % 4), validate=True)
    except (binascii.Error, ValueError) as error:
        raise NotAnImage(
            "The data: address holds invalid base64.", hint="Encode the whole file as base64."
        ) from error
