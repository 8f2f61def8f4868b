"""Taking metadata out of encoded pictures without decoding them.

What the pixels need stays (colour profile, gamma, palette, transparency); EXIF, XMP, IPTC,
comments, texts, times and whatever is glued behind the picture's end go.
"""

import struct
from collections.abc import Iterator

_PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_PNG_KEPT = frozenset(
    (b"IHDR", b"PLTE", b"IDAT", b"IEND", b"tRNS", b"gAMA", b"cHRM", b"sRGB", b"iCCP", b"cICP")
)
_WEBP_DROPPED = frozenset((b"EXIF", b"XMP "))
_WEBP_KNOWN = frozenset((b"VP8 ", b"VP8L", b"VP8X", b"ICCP", b"ALPH", b"EXIF", b"XMP "))

_SOI, _EOI, _SOS, _COM = 0xD8, 0xD9, 0xDA, 0xFE
_APP0, _APP2, _APP14, _APP15 = 0xE0, 0xE2, 0xEE, 0xEF


class Unparsable(Exception):
    """The structure is not the plain one: only a new encoding gets rid of what is inside."""


def strip_metadata(data: bytes, media_type: str) -> bytes:
    """``data`` without metadata, its pixels the same bytes; ``data`` itself if it is clean.

    Handles image/png, image/jpeg and image/webp with one frame. Raises Unparsable.
    """
    stripped = _STRIPPERS[media_type](data)
    return data if stripped == data else stripped


def _strip_png(data: bytes) -> bytes:
    parts = [_PNG_SIGNATURE]
    at = len(_PNG_SIGNATURE)
    while at + 12 <= len(data):
        length = int.from_bytes(data[at : at + 4])
        kind, end = data[at + 4 : at + 8], at + 12 + length
        if kind == b"acTL":
            raise Unparsable("an animation")
        if end > len(data):
            break
        if kind in _PNG_KEPT:
            parts.append(data[at:end])
        if kind == b"IEND":
            return b"".join(parts)
        at = end
    raise Unparsable("no end")


def _strip_jpeg(data: bytes) -> bytes:
    parts = [b"\xff\xd8"]
    for marker, start, end in _jpeg_segments(data):
        if _APP0 <= marker <= _APP15 or marker == _COM:
            body = data[start + 4 : end]
            is_kept = (
                (marker == _APP0 and body.startswith(b"JFIF\0"))
                or (marker == _APP2 and body.startswith(b"ICC_PROFILE\0"))
                or (marker == _APP14 and body.startswith(b"Adobe"))
            )
            if not is_kept:
                continue
        parts.append(data[start:end])
    return b"".join(parts)


def _jpeg_segments(data: bytes) -> Iterator[tuple[int, int, int]]:
    """(marker, start, end) of each segment up to EOI; a scan's data belongs to its SOS."""
    at = 2
    while at + 4 <= len(data):
        if data[at] != 0xFF:
            raise Unparsable("no marker")
        if data[at + 1] == 0xFF:  # fill byte
            at += 1
            continue
        marker = data[at + 1]
        if marker == _EOI:
            break
        end = at + 2 + int.from_bytes(data[at + 2 : at + 4])
        if marker == _SOS:
            end = _end_of_scan(data, end)
        if end > len(data) or end < at + 4:
            raise Unparsable("a segment behind the end")
        yield marker, at, end
        at = end
    if data[at : at + 2] != b"\xff\xd9":
        raise Unparsable("no end")
    yield _EOI, at, at + 2


def _end_of_scan(data: bytes, at: int) -> int:
    while True:
        at = data.find(b"\xff", at)
        if at < 0 or at + 1 >= len(data):
            raise Unparsable("no end")
        # Stuffed zeros, fill bytes and restart markers belong to the scan.
        if data[at + 1] in (0x00, 0xFF) or 0xD0 <= data[at + 1] <= 0xD7:
            at += 1 if data[at + 1] == 0xFF else 2
            continue
        return at


def _strip_webp(data: bytes) -> bytes:
    total = 8 + int.from_bytes(data[4:8], "little")
    if total > len(data):
        raise Unparsable("no end")
    parts: list[bytes] = []
    at = 12
    while at + 8 <= total:
        kind = data[at : at + 4]
        length = int.from_bytes(data[at + 4 : at + 8], "little")
        end = at + 8 + length + (length & 1)
        if end > total + 1:
            raise Unparsable("a chunk behind the end")
        if kind in (b"ANIM", b"ANMF"):
            raise Unparsable("an animation")
        if kind in _WEBP_KNOWN - _WEBP_DROPPED:
            chunk = data[at:end]
            if kind == b"VP8X":
                # Bits 2 and 3 of the flags announce XMP and EXIF.
                chunk = chunk[:8] + bytes([chunk[8] & ~0x0C]) + chunk[9:]
            parts.append(chunk)
        at = end
    body = b"WEBP" + b"".join(parts)
    return b"RIFF" + struct.pack("<I", len(body)) + body


_STRIPPERS = {"image/png": _strip_png, "image/jpeg": _strip_jpeg, "image/webp": _strip_webp}
