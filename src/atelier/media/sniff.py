"""What bytes are, read from the bytes: a name or a header may say anything."""

from collections.abc import Callable

from atelier.storage.media_types import OCTETS, media_type_of

# (offset, bytes, media type); the first that fits wins.
_MAGIC: tuple[tuple[int, bytes, str], ...] = (
    (0, b"\x89PNG\r\n\x1a\n", "image/png"),
    (0, b"\xff\xd8\xff", "image/jpeg"),
    (0, b"GIF87a", "image/gif"),
    (0, b"GIF89a", "image/gif"),
    (0, b"II*\x00", "image/tiff"),
    (0, b"MM\x00*", "image/tiff"),
    (0, b"glTF", "model/gltf-binary"),
    (0, b"fLaC", "audio/flac"),
    (0, b"OggS", "audio/ogg"),
    (0, b"ID3", "audio/mpeg"),
    (0, b"%PDF-", "application/pdf"),
    (0, b"PK\x03\x04", "application/zip"),
)
_RIFF = {b"WEBP": "image/webp", b"WAVE": "audio/wav", b"AVI ": "video/x-msvideo"}
# https://mp4ra.org/registered-types/brands
_BRANDS = {
    b"avif": "image/avif",
    b"avis": "image/avif",
    b"heic": "image/heic",
    b"heix": "image/heic",
    b"hevc": "image/heic",
    b"mif1": "image/heic",
    b"msf1": "image/heic",
    b"qt  ": "video/quicktime",
    b"M4A ": "audio/mp4",
    b"M4B ": "audio/mp4",
}
_MP3_FRAMES = (b"\xff\xfb", b"\xff\xf3", b"\xff\xf2", b"\xff\xfa")


def sniff(data: bytes) -> str | None:
    """The media type of ``data`` by its first bytes; None if they are of no known kind."""
    for offset, magic, media_type in _MAGIC:
        if data.startswith(magic, offset):
            return media_type
    for look in _LOOKS:
        found = look(data)
        if found:
            return found
    return None


def media_type_of_output(data: bytes, filename: str) -> str:
    """The media type of a file that a workflow made: by bytes, else by name, else by sight.

    A name can't make a picture of what isn't one: its bytes would have said so.
    """
    found = sniff(data)
    named = media_type_of(filename)
    if found == "application/zip" and named.startswith("model/"):
        return named  # some 3D formats are archives
    if found:
        return found
    if named != OCTETS and not _has_magic(named):
        return named
    return "text/plain" if _is_text(data) else OCTETS


def _riff(data: bytes) -> str | None:
    return _RIFF.get(data[8:12]) if data.startswith(b"RIFF") else None


def _iso_media(data: bytes) -> str | None:
    if data[4:8] != b"ftyp":
        return None
    # AVIF and HEIC may name the generic `mif1` first and themselves among the compatible.
    brands = [data[8:12], *(data[at : at + 4] for at in range(16, min(64, len(data)), 4))]
    if b"avif" in brands:
        return "image/avif"
    return _BRANDS.get(data[8:12], "video/mp4")


def _matroska(data: bytes) -> str | None:
    if not data.startswith(b"\x1a\x45\xdf\xa3"):
        return None
    return "video/webm" if b"webm" in data[:64] else "video/x-matroska"


def _bitmap(data: bytes) -> str | None:
    # Two letters prove little: the reserved field must be zero and the header size known.
    if data.startswith(b"BM") and data[6:10] == b"\0\0\0\0" and data[14:18] in _BITMAP_HEADERS:
        return "image/bmp"
    return None


_BITMAP_HEADERS = tuple(size.to_bytes(4, "little") for size in (12, 40, 52, 56, 64, 108, 124))


def _mp3(data: bytes) -> str | None:
    return "audio/mpeg" if data[:2] in _MP3_FRAMES else None


def _markup(data: bytes) -> str | None:
    start = data[:1024].removeprefix(b"\xef\xbb\xbf").lstrip().lower()
    if start.startswith((b"<!doctype html", b"<html", b"<head", b"<body")):
        return "text/html"
    if start.startswith(b"<svg") or (start.startswith((b"<?xml", b"<!")) and b"<svg" in start):
        return "image/svg+xml"
    return None


def _safetensors(data: bytes) -> str | None:
    # A little-endian length of the JSON header, then the header.
    is_one = len(data) > 10 and data[8:10] == b'{"' and int.from_bytes(data[:8], "little") < 1e8
    return "application/vnd.safetensors" if is_one else None


_LOOKS: tuple[Callable[[bytes], str | None], ...] = (
    _riff,
    _iso_media,
    _matroska,
    _bitmap,
    _mp3,
    _markup,
    _safetensors,
)
_WITH_MAGIC = frozenset(
    {media_type for _, _, media_type in _MAGIC}
    | set(_RIFF.values())
    | set(_BRANDS.values())
    | {"video/mp4", "video/webm", "video/x-matroska", "image/bmp"}
)


def _has_magic(media_type: str) -> bool:
    return media_type in _WITH_MAGIC


def _is_text(data: bytes) -> bool:
    if not data or b"\0" in data[:4096]:
        return False
    try:
        data.decode()
    except UnicodeDecodeError:
        return False
    return True
