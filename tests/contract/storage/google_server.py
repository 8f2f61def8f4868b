"""Google Cloud Storage as its XML API behaves, with service accounts and V4 signatures."""

import base64
import hashlib
import json
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import format_datetime
from urllib.parse import parse_qsl, quote, unquote, urlsplit
from xml.sax.saxutils import escape

from aiohttp import web
from aiohttp.test_utils import TestServer
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
)

BUCKET = "pictures"
EMAIL = "atelier@project.iam.gserviceaccount.com"
HOST = "storage.googleapis.com"  # what is signed, wherever this listens
PAGE = 3  # small, so that listings have pages


class GoogleServer:
    """``credentials`` is the content of the JSON file of the one account that may come in."""

    def __init__(self) -> None:
        self._key = rsa.generate_private_key(65537, 2048)
        self._generation = 1
        self.renew()

    def renew(self) -> None:
        """Empty, on a port of its own, for the same account."""
        self._objects: dict[str, tuple[bytes, str, datetime, int]] = {}
        app = web.Application(client_max_size=100_000_000)
        app.router.add_route("*", "/{path:.*}", self._answer)
        self.server = TestServer(app, host="127.0.0.1")

    def credentials(self, key: rsa.RSAPrivateKey | None = None) -> str:
        pem = (key or self._key).private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        return json.dumps(
            {
                "type": "service_account",
                "client_email": EMAIL,
                "private_key": pem.decode(),
                "private_key_id": "1",
                "gcs_base_url": str(self.server.make_url("")).rstrip("/"),
            }
        )

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        path, _, query = request.raw_path.partition("?")
        bucket, _, name = unquote(path.lstrip("/")).partition("/")
        params = dict(parse_qsl(query))
        signed = "X-Goog-Signature" in params
        if not (self._is_signed(request, params) if signed else self._has_token(request)):
            status = 403 if signed else 401
            return _error(status, "SignatureDoesNotMatch" if signed else "AuthenticationRequired")
        if bucket != BUCKET:
            return _error(404, "NoSuchBucket")
        if params.get("list-type") == "2":
            return self._list(params)
        if request.method == "PUT":
            self._generation += 1
            body = await request.read()
            media_type = request.headers.get("Content-Type", "application/octet-stream")
            now = datetime.now(UTC).replace(microsecond=0)
            self._objects[name] = (body, media_type, now, self._generation)
            return web.Response(headers={"ETag": _etag(body)})
        if name not in self._objects:
            return _error(404, "NoSuchKey")
        if request.method == "DELETE":
            del self._objects[name]
            return web.Response(status=204)
        return self._read(request, name)

    def _read(self, request: web.Request, name: str) -> web.Response:
        body, media_type, modified, generation = self._objects[name]
        headers = {
            "ETag": _etag(body),
            "Last-Modified": format_datetime(modified, usegmt=True),
            "Content-Type": media_type,
            "x-goog-generation": str(generation),
        }
        status = 200
        if "Range" in request.headers:
            asked = request.http_range
            start, stop = asked.start or 0, min(asked.stop or len(body), len(body))
            if start >= len(body):
                return _error(416, "InvalidRange")
            headers["Content-Range"] = f"bytes {start}-{stop - 1}/{len(body)}"
            body, status = body[start:stop], 206
        return web.Response(status=status, body=body, headers=headers)

    def _list(self, params: Mapping[str, str]) -> web.Response:
        names = sorted(name for name in self._objects if name.startswith(params.get("prefix", "")))
        after = params.get("continuation-token") or params.get("start-after") or ""
        rest = [name for name in names if name > after]
        page, is_truncated = rest[:PAGE], len(rest) > PAGE
        contents = "".join(
            f"<Contents><Key>{escape(name)}</Key><Generation>1</Generation>"
            f"<LastModified>{modified:%Y-%m-%dT%H:%M:%S.000Z}</LastModified>"
            f"<ETag>{escape(_etag(body))}</ETag><Size>{len(body)}</Size></Contents>"
            for name in page
            for body, _, modified, _ in [self._objects[name]]
        )
        last = escape(page[-1]) if page else ""
        token = f"<NextContinuationToken>{last}</NextContinuationToken>"
        text = (
            '<?xml version="1.0" encoding="UTF-8"?>'
            '<ListBucketResult xmlns="http://doc.s3.amazonaws.com/2006-03-01">'
            f"<Name>{BUCKET}</Name><IsTruncated>{str(is_truncated).lower()}</IsTruncated>"
            f"{token if is_truncated else ''}{contents}</ListBucketResult>"
        )
        return web.Response(text=text, content_type="application/xml")

    def _has_token(self, request: web.Request) -> bool:
        """A token that the account signed itself."""
        kind, _, token = request.headers.get("Authorization", "").partition(" ")
        signed, _, signature = token.rpartition(".")
        if kind != "Bearer" or not signed:
            return False
        claims = json.loads(_decoded(signed.partition(".")[2]))
        in_time = claims["iat"] <= datetime.now(UTC).timestamp() + 60 < claims["exp"]
        return claims["iss"] == EMAIL and in_time and self._verify(_decoded(signature), signed)

    def _is_signed(self, request: web.Request, params: Mapping[str, str]) -> bool:
        """https://cloud.google.com/storage/docs/authentication/canonical-requests"""
        others = sorted(item for item in params.items() if item[0] != "X-Goog-Signature")
        query = "&".join(f"{quote(k, safe='')}={quote(v, safe='')}" for k, v in others)
        path = urlsplit(request.raw_path).path
        canonical = f"{request.method}\n{path}\n{query}\nhost:{HOST}\n\nhost\nUNSIGNED-PAYLOAD"
        credential, date = params["X-Goog-Credential"], params["X-Goog-Date"]
        email, _, scope = credential.partition("/")
        digest = hashlib.sha256(canonical.encode()).hexdigest()
        text = f"GOOG4-RSA-SHA256\n{date}\n{scope}\n{digest}"
        made = datetime.strptime(date, "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)
        age = (datetime.now(UTC) - made).total_seconds()
        signature = bytes.fromhex(params["X-Goog-Signature"])
        in_time = age <= int(params["X-Goog-Expires"])
        return email == EMAIL and in_time and self._verify(signature, text)

    def _verify(self, signature: bytes, text: str) -> bool:
        try:
            self._key.public_key().verify(signature, text.encode(), padding.PKCS1v15(), SHA256())
        except InvalidSignature:
            return False
        return True


def _etag(body: bytes) -> str:
    return f'"{hashlib.md5(body).hexdigest()}"'


def _decoded(part: str) -> bytes:
    return base64.urlsafe_b64decode(part + "=" * (-len(part) % 4))


def _error(status: int, code: str) -> web.Response:
    text = f"<?xml version='1.0' encoding='UTF-8'?><Error><Code>{code}</Code></Error>"
    return web.Response(status=status, text=text, content_type="application/xml")
