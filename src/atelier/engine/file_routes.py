"""HTTP: /view and /upload."""

import asyncio
import hashlib
import io
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import IO, Any, Final

import orjson
from aiohttp import web
from PIL import Image, UnidentifiedImageError

from atelier.engine.folders import (
    Folders,
    OutsideFolder,
    is_file,
    media_type,
    split_annotation,
    write_atomically,
)
from atelier.engine.http_json import answer, refuse
from atelier.engine.nodes.loading import MOST_PIXELS

# What a browser would run if it were shown.
_DANGEROUS: Final = {
    "text/html",
    "text/html-sandboxed",
    "application/xhtml+xml",
    "text/javascript",
    "text/css",
    "image/svg+xml",
}
_NO_PICTURE: Final = (UnidentifiedImageError, OSError, ValueError, Image.DecompressionBombError)


class FileRoutes:
    """Hands files out and takes them in; pictures are converted off the event loop."""

    def __init__(self, folders: Folders) -> None:
        self._folders = folders

    def routes(self, prefix: str) -> list[web.RouteDef]:
        return [
            web.get(f"{prefix}/view", self.view),
            web.post(f"{prefix}/upload/image", self.upload_image),
            web.post(f"{prefix}/upload/mask", self.upload_mask),
        ]

    async def view(self, request: web.Request) -> web.StreamResponse:
        path = self._viewed(request.query)
        headers = {"Content-Disposition": f'filename="{_quotable(path.name)}"'}
        channel = request.query.get("channel", "")
        preview = request.query.get("preview")
        if preview is None and channel not in ("rgb", "a"):
            kind = media_type(path.name)
            headers["Content-Type"] = "application/octet-stream" if kind in _DANGEROUS else kind
            return web.FileResponse(path, headers=headers)
        try:
            data, kind = await asyncio.to_thread(_convert, path, preview, channel)
        except _NO_PICTURE as error:
            raise refuse("invalid_image", "The file is no picture.", str(error)) from error
        return web.Response(body=data, content_type=kind, headers=headers)

    def _viewed(self, query: Mapping[str, str]) -> Path:
        filename, annotated = split_annotation(query.get("filename", ""))
        if "filename" not in query:
            raise web.HTTPNotFound
        if not filename or filename.startswith("/") or ".." in filename:
            raise web.HTTPBadRequest
        kind = annotated or query.get("type", "output")
        if self._folders.directory(kind) is None:
            raise web.HTTPBadRequest
        try:
            folder = self._folders.resolve(kind, query.get("subfolder", ""))
        except OutsideFolder as error:
            raise web.HTTPForbidden from error
        path = folder / PurePosixPath(filename).name
        if not is_file(path):
            raise web.HTTPNotFound
        return path

    async def upload_image(self, request: web.Request) -> web.Response:
        return await self._upload(request, is_mask=False)

    async def upload_mask(self, request: web.Request) -> web.Response:
        return await self._upload(request, is_mask=True)

    async def _upload(self, request: web.Request, *, is_mask: bool) -> web.Response:
        try:
            form = await request.post()
        except ValueError as error:
            raise refuse("invalid_body", "The body is no form.", str(error)) from error
        image = form.get("image")
        if not isinstance(image, web.FileField):
            raise refuse("invalid_body", "The form needs a file named image.")
        kind = str(form.get("type", "input"))
        if self._folders.directory(kind) is None:
            raise refuse("invalid_body", f"type must be input, output or temp, not {kind!r}.")
        subfolder = str(form.get("subfolder", ""))
        folder, filename = self._target(kind, subfolder, image.filename)
        overwrite = form.get("overwrite") in ("true", "1")
        original = self._original(form) if is_mask else None
        try:
            name = await asyncio.to_thread(
                _keep, folder, filename, image.file, overwrite=overwrite, original=original
            )
        except _NO_PICTURE as error:
            raise refuse("invalid_image", "The file can't be kept.", str(error)) from error
        return answer({"name": name, "subfolder": subfolder, "type": kind})

    def _target(self, kind: str, subfolder: str, filename: str) -> tuple[Path, str]:
        try:
            folder = self._folders.resolve(kind, subfolder)
            target = self._folders.resolve(kind, subfolder, filename)
        except OutsideFolder as error:
            raise refuse("invalid_path", error.message) from error
        if not filename or target.parent != folder or target == folder:
            raise refuse("invalid_path", f"{filename!r} is no name for a file.")
        return folder, target.name

    def _original(self, form: Mapping[str, Any]) -> Path:
        """Return the picture that an uploaded mask is for."""
        try:
            reference = orjson.loads(str(form.get("original_ref", "")))
            filename, annotated = split_annotation(str(reference["filename"]))
            kind = annotated or reference.get("type", "output")
            path = self._folders.resolve(kind, reference.get("subfolder", ""), filename)
        except (ValueError, KeyError, TypeError, AttributeError, OutsideFolder) as error:
            message = "original_ref must name a file."
            raise refuse("invalid_body", message, str(error)) from error
        if not is_file(path):
            raise refuse("invalid_path", "There is no such file as original_ref names.")
        return path


def _keep(
    folder: Path, filename: str, source: IO[bytes], *, overwrite: bool, original: Path | None
) -> str:
    """Write ``source`` and return its name: another one if the wanted one holds other bytes."""
    data = source.read()
    folder.mkdir(parents=True, exist_ok=True)
    wanted = Path(filename)
    target = folder / filename
    number = 1
    while not overwrite and target.exists():
        if target.stat().st_size == len(data) and _hash(target.read_bytes()) == _hash(data):
            return target.name
        target = folder / f"{wanted.stem} ({number}){wanted.suffix}"
        number += 1
    write_atomically(target, data if original is None else _with_alpha_of(original, data))
    return target.name


def _hash(data: bytes) -> bytes:
    return hashlib.sha256(data).digest()


def _open(file: Path | IO[bytes]) -> Image.Image:
    picture = Image.open(file)
    if picture.width * picture.height > MOST_PIXELS:
        picture.close()
        raise Image.DecompressionBombError("The picture has too many pixels.")
    return picture


def _with_alpha_of(original: Path, mask: bytes) -> bytes:
    from PIL.PngImagePlugin import PngInfo

    with _open(original) as picture, _open(io.BytesIO(mask)) as painted:
        metadata = PngInfo()
        for key, text in getattr(picture, "text", {}).items():
            metadata.add_text(key, text)
        result = picture.convert("RGBA")
        result.putalpha(painted.convert("RGBA").getchannel("A"))
        return _encoded(result, "PNG", pnginfo=metadata, compress_level=4)


def _convert(path: Path, preview: str | None, channel: str) -> tuple[bytes, str]:
    """Return the picture as a preview (``webp;90``, ``jpeg``) or one channel, and its type."""
    with _open(path) as picture:
        if preview is not None:
            kind, *rest = preview.split(";")
            if kind not in ("webp", "jpeg") or "a" in channel:
                kind = "webp"
            quality = int(rest[-1]) if rest and rest[-1].isdecimal() else 90
            flat = kind == "jpeg" or channel == "rgb"
            shown = picture.convert("RGB") if flat else picture
            data = _encoded(shown, kind.upper(), quality=min(quality, 100))
            return data, f"image/{kind}"
        if channel == "rgb":
            return _encoded(picture.convert("RGB"), "PNG"), "image/png"
        alpha = (
            picture.getchannel("A") if picture.mode == "RGBA" else Image.new("L", picture.size, 255)
        )
        result = Image.new("RGBA", picture.size)
        result.putalpha(alpha)
        return _encoded(result, "PNG"), "image/png"


def _encoded(picture: Image.Image, kind: str, **options: Any) -> bytes:
    target = io.BytesIO()
    picture.save(target, kind, **options)
    return target.getvalue()


def _quotable(filename: str) -> str:
    # A line break or a quote in a file's name must not reach the header.
    return (
        "".join(c for c in filename if c.isprintable() and c != '"')
        .encode("utf-8", "replace")
        .decode()
    )
