"""`atelier workflows convert`: the API graph of a file in ComfyUI's UI format."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import orjson
from PIL import ExifTags, Image

from atelier.app import DEFAULT_COMFYUI
from atelier.comfy.client import ComfyClient
from atelier.comfy.object_info import ObjectInfo
from atelier.comfy.protocol import ProtocolError
from atelier.errors import AtelierError, InvalidRequest
from atelier.settings import load_settings
from atelier.telemetry import configure_logging
from atelier.workflows.convert import is_editor_graph
from atelier.workflows.formats import graph_of, named_types, unwrapped

_PICTURES: Final = frozenset({".png", ".webp", ".jpg", ".jpeg", ".avif"})


class FileUnusable(InvalidRequest):
    code = "FILE_UNUSABLE"


class NobodyKnowsTheNodes(InvalidRequest):
    """Neither a file nor an instance tells which widgets the nodes have."""

    code = "OBJECT_INFO_NEEDED"
    default_hint = (
        "Start ComfyUI and name it with --comfyui http://host:8188 (or COMFYUI_URLS), or give "
        "--object-info with a file that holds its answer to GET /object_info."
    )


async def convert_file(path: Path, *, object_info: Path | None, comfyui_urls: str | None) -> str:
    """Return the API graph of the file as text.

    Raises FileUnusable, NobodyKnowsTheNodes, GraphMalformed, ConversionFailed.
    """
    configure_logging("ERROR")
    body = unwrapped(_read_picture(path) if path.suffix.lower() in _PICTURES else _read_json(path))
    known = None
    if object_info is not None:
        try:
            known = ObjectInfo.parse(_read_json(object_info))
        except ProtocolError as error:
            raise FileUnusable(f"{object_info} is no object_info: {error.message}") from None
    elif is_editor_graph(body):
        settings = load_settings(comfyui_urls=comfyui_urls)
        known = await _asked(settings.comfyui_urls or (DEFAULT_COMFYUI,), named_types(body))
    return json.dumps(graph_of(body, known), indent=2, ensure_ascii=False)


def write(text: str, output: Path) -> None:
    """Raises FileUnusable."""
    try:
        output.write_text(text + "\n", encoding="utf-8")
    except OSError as error:
        raise FileUnusable(f"{output} can't be written: {error.strerror}.") from None


async def _asked(urls: Sequence[str], classes: frozenset[str]) -> ObjectInfo:
    """The object_info of the instance that has most of ``classes``."""
    answers: list[ObjectInfo] = []
    silent: list[str] = []
    for url in urls:
        try:
            async with ComfyClient(url, "atelier-convert") as client:
                answers.append(await client.object_info())
        except AtelierError as error:
            silent.append(f"{url} ({error.message.rstrip('.')})")
    if not answers:
        raise NobodyKnowsTheNodes(f"No ComfyUI tells about its nodes: {', '.join(silent)}.")
    return max(answers, key=lambda info: len(classes & info.classes))


def _read_json(path: Path) -> Any:
    try:
        return orjson.loads(path.read_bytes())
    except OSError as error:
        raise FileUnusable(f"{path} can't be read: {error.strerror}.") from None
    except orjson.JSONDecodeError as error:
        raise FileUnusable(f"{path} is not JSON: {error}.") from None


def _read_picture(path: Path) -> dict[str, Any]:
    """The graphs that ComfyUI wrote into a picture, by name.

    PNG has them as texts, other formats as ``name:{...}`` in EXIF fields.
    """
    try:
        with Image.open(path) as picture:
            texts = {key: value for key, value in picture.info.items() if isinstance(value, str)}
            fields = picture.getexif()
    except (OSError, ValueError, Image.DecompressionBombError) as error:
        raise FileUnusable(f"{path} can't be read as a picture: {error}.") from None
    for tag in (ExifTags.Base.Make, ExifTags.Base.Model):
        name, colon, text = str(fields.get(tag, "")).partition(":")
        if colon:
            texts[name.lower()] = text.rstrip("\0")
    found = {}
    for name in ("prompt", "workflow"):
        try:
            # What ComfyUI writes may hold NaN, which JSON doesn't have.
            found[name] = json.loads(texts.get(name, "null"), parse_constant=lambda _: None)
        except ValueError:
            continue
    if not any(found.values()):
        raise FileUnusable(
            f"{path} holds no workflow.",
            hint="ComfyUI writes it into what SaveImage saves; other programs remove it.",
        )
    return found
