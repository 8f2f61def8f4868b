"""Input files on one instance, each sent once in a while."""

import asyncio
import hashlib
import mimetypes
import re
import time
from collections.abc import Callable
from typing import Final

import aiohttp

from atelier.comfy.protocol import parse_json
from atelier.comfy.transport import Transport

# Files are swept from an instance's folder an hour after they came. So a name is good for this
# long only; then the file goes there under another, since ComfyUI overwrites no file that it has
# in a way that is safe for whoever reads it, nor says how old that is.
RENEW_SECONDS: Final = 1800
# Our files among an instance's, ComfyUI's numbered name for one that was broken included.
UPLOAD: Final = re.compile(r"atelier-[0-9a-f]{24}(?:-[0-9a-f]+)?(?: \(\d+\))?\.\w+")

_EXTENSIONS: Final = {
    "image/jpeg": ".jpg",
    "image/png": ".png",
    "image/webp": ".webp",
    "image/gif": ".gif",
    "video/mp4": ".mp4",
    "audio/mpeg": ".mp3",
}


class Uploads:
    """Uploads to one instance, named by content and half-hour and remembered as long.

    After ``doubt()`` a remembered file is asked for before it is relied on. ``now`` gives seconds
    since the epoch.
    """

    def __init__(self, transport: Transport, *, now: Callable[[], float] = time.time) -> None:
        self._transport = transport
        self._now = now
        self._period = 0
        self._names: dict[str, str] = {}  # what we call it -> what ComfyUI calls it
        self._doubted: set[str] = set()
        # By content: the same file waits for itself, another one seldom does.
        self._locks = [asyncio.Lock() for _ in range(64)]

    def doubt(self) -> None:
        """Trust nothing that is remembered: the instance may have lost its files."""
        self._doubted = set(self._names)

    async def put(self, data: bytes, *, media_type: str) -> str:
        """Return the name by which LoadImage and its kind know ``data``, sent if need be."""
        digest = await asyncio.to_thread(hashlib.sha256, data)
        extension = _EXTENSIONS.get(media_type) or mimetypes.guess_extension(media_type) or ".bin"
        self._renew()
        wanted = f"atelier-{digest.hexdigest()[:24]}-{self._period:x}{extension}"
        async with self._locks[digest.digest()[0] % len(self._locks)]:
            if wanted in self._doubted and not await self._is_there(self._names[wanted]):
                self._names.pop(wanted, None)
            self._doubted.discard(wanted)
            name = self._names.get(wanted)
            if name is None:
                name = self._names[wanted] = await self._send(wanted, data, media_type)
            return name

    def _renew(self) -> None:
        period = int(self._now() // RENEW_SECONDS)
        if period != self._period:
            self._period = period
            self._names = {}
            self._doubted = set()

    async def _is_there(self, name: str) -> bool:
        params = {"filename": name, "type": "input", "subfolder": ""}
        async with self._transport.request("HEAD", "/view", params=params) as response:
            return response.status == 200

    async def _send(self, name: str, data: bytes, media_type: str) -> str:
        form = aiohttp.FormData()
        form.add_field("image", data, filename=name, content_type=media_type)
        form.add_field("type", "input")
        async with self._transport.request(
            "POST", "/upload/image", data=form, timeout_seconds=None
        ) as response:
            body = await response.read()
        if response.status != 200:
            self._transport.refuse("/upload/image", response.status, body)
        answer = parse_json(body)
        # ComfyUI renames a file if one of that name and other content is there.
        stored = str(answer.get("name") or name)
        folder = answer.get("subfolder")
        return f"{folder}/{stored}" if folder else stored
