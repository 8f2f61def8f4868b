"""Cloudflare Images as its API behaves: images only, under names of the caller's, in envelopes."""

import io
import json
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote, unquote

from aiohttp import web
from aiohttp.test_utils import TestServer
from PIL import Image

ACCOUNT = "0123456789abcdef0123456789abcdef"
HASH = "Vi7wi5KSItxGFsWRG2Us6Q"
TOKEN = "token"
PAGE = 3  # small, so that listings have pages


class CloudflareServer:
    """The API, and below /cdn-cgi/imagedelivery the delivery of variants.

    ``troubles`` are statuses that the next requests are answered with.
    """

    def __init__(self) -> None:
        self.images: dict[str, tuple[bytes, dict[str, Any]]] = {}
        self.troubles: list[int] = []
        self.lost_answers = 0  # uploads that succeed, but whose answer gets lost
        self.deletions = 0
        app = web.Application(client_max_size=30_000_000)
        app.router.add_route("*", "/{path:.*}", self._answer)
        self.server = TestServer(app, host="127.0.0.1")

    @property
    def url(self) -> str:
        return str(self.server.make_url("")).rstrip("/")

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        if self.troubles:
            status = self.troubles.pop(0)
            return _error(status, 971 if status == 429 else 5500, "try again later")
        path = request.raw_path.partition("?")[0]
        if path.startswith("/cdn-cgi/imagedelivery/"):
            return self._deliver(unquote(path).removeprefix("/cdn-cgi/imagedelivery/"))
        if request.headers.get("Authorization") != f"Bearer {TOKEN}":
            return _error(403, 10000, "Authentication error")
        prefix = f"/accounts/{ACCOUNT}/images/"
        if not path.startswith(prefix):
            return _error(404, 7003, "Could not route to the account, perhaps it is invalid?")
        kind, _, rest = path.removeprefix(prefix).partition("/")
        if kind == "v2" and request.method == "GET":
            return self._list(request)
        if request.method == "POST":
            return await self._upload(request)
        id, _, what = rest.partition("/")
        id = unquote(id)
        if id not in self.images:
            return _error(404, 5404, "Image not found")
        if request.method == "DELETE":
            del self.images[id]
            self.deletions += 1
            return _result({})
        data, details = self.images[id]
        if what == "blob":
            return web.Response(body=data, content_type=Image.MIME[_format(data) or "PNG"])
        return _result(details)

    async def _upload(self, request: web.Request) -> web.Response:
        form = await request.post()
        file, id = form["file"], str(form["id"])
        assert isinstance(file, web.FileField)
        data = file.file.read()
        if form.get("requireSignedURLs") == "true":
            return _error(400, 5400, "Custom ids can't require signed URLs")
        if id.startswith("/") or id.endswith("/") or len(id) > 1024:
            return _error(400, 5411, "Bad image id")
        metadata = str(form.get("metadata", "{}"))
        if len(metadata) > 1024:
            return _error(400, 5403, "The metadata are too long")
        if len(data) > 10 * 1024 * 1024:
            return _error(413, 5413, "The file is larger than 10 MB")
        if _format(data) not in ("PNG", "JPEG", "GIF", "WEBP"):
            return _error(415, 5455, "Uploaded image must have a known image format")
        if id in self.images:
            return _error(409, 5409, "Resource already exists")
        details = {
            "id": id,
            "filename": file.filename,
            "meta": json.loads(metadata),
            "uploaded": datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z"),
            "requireSignedURLs": False,
            "variants": [f"https://imagedelivery.net/{HASH}/{quote(id)}/public"],
        }
        self.images[id] = (data, details)
        if self.lost_answers:
            self.lost_answers -= 1
            return _error(502, 0, "Bad gateway")
        return _result(details)

    def _list(self, request: web.Request) -> web.Response:
        after = request.query.get("continuation_token", "")
        rest = sorted(id for id in self.images if id > after)
        token = rest[PAGE - 1] if len(rest) > PAGE else None
        found = [self.images[id][1] for id in rest[:PAGE]]
        return _result({"images": found, "continuation_token": token})

    def _deliver(self, path: str) -> web.Response:
        account, _, rest = path.partition("/")
        id, _, variant = rest.rpartition("/")
        if account != HASH or id not in self.images or variant != "public":
            return web.Response(status=404)
        data, _ = self.images[id]
        return web.Response(body=data, content_type=Image.MIME[_format(data) or "PNG"])


def _format(data: bytes) -> str | None:
    try:
        with Image.open(io.BytesIO(data)) as image:
            image.load()
            return image.format
    except (OSError, SyntaxError):
        return None


def _result(result: Any) -> web.Response:
    return web.json_response({"result": result, "success": True, "errors": [], "messages": []})


def _error(status: int, code: int, message: str) -> web.Response:
    errors = [{"code": code, "message": message}]
    envelope = {"result": None, "success": False, "errors": errors, "messages": []}
    return web.json_response(envelope, status=status)
