"""Media types and file extensions, the same on every machine.

The operating system's table is left alone: what a file is served as must not depend on
which packages a machine has.
"""

import mimetypes

OCTETS = "application/octet-stream"
JSON = "application/json"

# Both ways; of several extensions for one type the first is the one that is written.
_EXTENSIONS: tuple[tuple[str, str], ...] = (
    ("png", "image/png"),
    ("jpg", "image/jpeg"),
    ("jpeg", "image/jpeg"),
    ("webp", "image/webp"),
    ("gif", "image/gif"),
    ("avif", "image/avif"),
    ("heic", "image/heic"),
    ("bmp", "image/bmp"),
    ("tiff", "image/tiff"),
    ("tif", "image/tiff"),
    ("svg", "image/svg+xml"),
    ("mp4", "video/mp4"),
    ("m4v", "video/mp4"),
    ("webm", "video/webm"),
    ("mov", "video/quicktime"),
    ("mkv", "video/x-matroska"),
    ("avi", "video/x-msvideo"),
    ("mp3", "audio/mpeg"),
    ("wav", "audio/wav"),
    ("flac", "audio/flac"),
    ("ogg", "audio/ogg"),
    ("opus", "audio/ogg"),
    ("m4a", "audio/mp4"),
    ("glb", "model/gltf-binary"),
    ("gltf", "model/gltf+json"),
    ("obj", "model/obj"),
    ("stl", "model/stl"),
    ("ply", "model/ply"),
    ("usdz", "model/vnd.usdz+zip"),
    ("3mf", "model/3mf"),
    # Not registered, but told apart from other octets by whoever shows them.
    ("fbx", "model/x-fbx"),
    ("splat", "model/x-splat"),
    ("ksplat", "model/x-ksplat"),
    ("spz", "model/x-spz"),
    ("txt", "text/plain"),
    ("md", "text/markdown"),
    ("html", "text/html"),
    ("json", JSON),
    ("pdf", "application/pdf"),
    ("zip", "application/zip"),
    ("safetensors", "application/vnd.safetensors"),
    ("bin", OCTETS),
)
_TYPE_OF = dict(_EXTENSIONS)
_EXTENSION_OF = {media_type: extension for extension, media_type in reversed(_EXTENSIONS)}
_PYTHONS = mimetypes.MimeTypes()


def media_type_of(name: str) -> str:
    """The media type that the extension of ``name`` stands for, else octets."""
    _, dot, extension = name.rpartition("/")[2].rpartition(".")
    extension = extension.lower()
    if not dot:
        return OCTETS
    return _TYPE_OF.get(extension) or _PYTHONS.types_map[True].get(f".{extension}", OCTETS)


def extension_of(media_type: str) -> str:
    """The extension, without a dot, under which data of ``media_type`` is kept."""
    essence = media_type.partition(";")[0].strip().lower()
    guessed = _PYTHONS.guess_extension(essence)
    return _EXTENSION_OF.get(essence) or (guessed[1:] if guessed else "bin")
