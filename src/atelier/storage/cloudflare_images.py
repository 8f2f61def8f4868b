"""Cloudflare Images over its HTTP API, and a companion store for all that it doesn't take."""

import hashlib
import json
import uuid
from collections.abc import AsyncIterator, Callable, Mapping
from datetime import UTC, datetime
from types import TracebackType
from typing import Any, Self
from urllib.parse import parse_qsl, quote, urlsplit

import aiohttp
import stamina
import structlog
from yarl import URL

from atelier.errors import ConfigurationError
from atelier.storage.keys import check_key
from atelier.storage.media_types import media_type_of
from atelier.storage.store import (
    BucketMissing,
    ObjectInfo,
    RangeInvalid,
    StorageForbidden,
    StorageUnreachable,
    Store,
    Stream,
)

log = structlog.get_logger(__name__)

API = "https://api.cloudflare.com/client/v4"
FOLDER = "atelier/"  # an account has one room for all images: ours are told by this
MAX_BYTES = 10 * 1024 * 1024
PAGE = 1000
CHUNK_BYTES = 256 * 1024
TRIES = 5
FIRST_PAUSE_SECONDS = 0.5
LONGEST_PAUSE_SECONDS = 8.0

# SVG and HEIC are taken too, but what comes back are not the bytes that were sent.
_SIGNATURES = {
    "image/png": b"\x89PNG\r\n\x1a\n",
    "image/jpeg": b"\xff\xd8\xff",
    "image/gif": b"GIF8",
    "image/webp": b"RIFF",
}
_ALREADY_EXISTS = 5409
_NO_SUCH_ACCOUNT = {7000, 7003}
_BAD_HEADERS = {6003, 6111}
_HINT = "Check CF_IMAGES_ACCOUNT_ID, and that CF_IMAGES_API_TOKEN may edit Cloudflare Images."
# A picture of one pixel.
_DOT = bytes.fromhex(
    "89504e470d0a1a0a0000000d4948445200000001000000010802000000907753de0000000c49"
    "444154789c63f8ffff3f0005fe02fe0def46b80000000049454e44ae426082"
)


class _Busy(StorageUnreachable):
    """Too many requests, or a failure on Cloudflare's side: worth another try."""


class _Refused(Exception):
    """An image that Cloudflare doesn't want; ``codes`` are its own."""

    def __init__(self, reason: str, codes: set[int]) -> None:
        super().__init__(reason)
        self.codes = codes


class CloudflareImages:
    """``async with``: PNG, JPEG, GIF and WebP up to 10 MB there, the rest in ``companion``.

    ``elsewhere`` tells keys that go to the companion whatever they hold. Without
    ``delivery_domain`` nothing there has an address that a browser can open.
    """

    def __init__(
        self,
        account: str,
        api_token: str,
        *,
        companion: Store,
        delivery_domain: str = "",
        variant: str = "public",
        elsewhere: Callable[[str], bool] = lambda key: False,
        api: str = API,
    ) -> None:
        self.name = f"Cloudflare Images (account {account})"
        self._base = f"{api.rstrip('/')}/accounts/{quote(account, safe='')}/images"
        self._token = api_token
        self._companion = companion
        self._delivery = delivery_domain.rstrip("/")
        self._variant = variant
        self._elsewhere = elsewhere
        self._session: aiohttp.ClientSession | None = None
        self._account_hash: str | None = None

    @classmethod
    def of_url(cls, url: str, *, companion: Store, api_token: str, **more: Any) -> Self:
        """For ``cf-images://ACCOUNT``. Raises ConfigurationError."""
        parts = urlsplit(url)
        options = dict(parse_qsl(parts.query))
        api = options.pop("endpoint", API)
        if not parts.netloc or parts.path.strip("/") or options or "@" in parts.netloc:
            raise ConfigurationError(
                "Storage can't be opened: the address of Cloudflare Images is "
                "cf-images://ACCOUNT and nothing else.",
                hint="Set STORAGE_PROVIDER=cf_images and CF_IMAGES_ACCOUNT_ID instead.",
            )
        if not api_token:
            raise ConfigurationError(
                "Storage can't be opened: Cloudflare Images needs CF_IMAGES_API_TOKEN.",
                hint="Make a token with the right to edit Cloudflare Images.",
            )
        return cls(parts.netloc, api_token, companion=companion, api=api, **more)

    async def __aenter__(self) -> Self:
        self._session = aiohttp.ClientSession(
            headers={"Authorization": f"Bearer {self._token}"},
            timeout=aiohttp.ClientTimeout(total=60, connect=5),
        )
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._session is not None:
            await self._session.close()

    # -- the port ------------------------------------------------------------------------------

    async def put(self, key: str, data: bytes, media_type: str) -> None:
        check_key(key)
        if self._looks_fit(key, data, media_type):
            try:
                await self._upload(key, data, media_type)
            except _Refused as error:
                log.info("Cloudflare Images doesn't take an image", key=key, reason=str(error))
            else:
                return
        await self._companion.put(key, data, media_type)
        if self._may_hold(key):
            await self._delete(key)

    async def get(self, key: str) -> bytes:
        check_key(key)
        data = await self._blob(key) if self._may_hold(key) else None
        return await self._companion.get(key) if data is None else data

    async def open(self, key: str, *, start: int = 0, end: int | None = None) -> Stream:
        check_key(key)
        if start < 0 or (end is not None and end <= start):
            raise RangeInvalid(f"No bytes lie between {start} and {end}.")
        details = await self._details(key) if self._may_hold(key) else None
        # The API gives images only whole; they have 10 MB at most.
        data = await self._blob(key) if details is not None else None
        if details is None or data is None:
            return await self._companion.open(key, start=start, end=end)
        info = _info(key, details, data)
        if start >= info.size and (start or end is not None):
            raise RangeInvalid(f"The object has {info.size} bytes.", size=info.size)
        end = info.size if end is None else min(end, info.size)
        return Stream(info, start, end, _chunks(data[start:end]))

    async def head(self, key: str) -> ObjectInfo | None:
        check_key(key)
        details = await self._details(key) if self._may_hold(key) else None
        if details is None:
            return await self._companion.head(key)
        if "size_bytes" in _meta(details):
            return _info(key, details)
        data = await self._blob(key)
        return None if data is None else _info(key, details, data)

    async def delete(self, key: str) -> None:
        check_key(key)
        if self._may_hold(key):
            await self._delete(key)
        await self._companion.delete(key)

    async def list(self, prefix: str = "") -> AsyncIterator[str]:
        folder = prefix.rstrip("/")
        if folder:
            check_key(folder)
        below = f"{folder}/" if folder else ""
        seen = set()
        if not self._elsewhere(below):
            async for key in self._keys():
                if key.startswith(below):
                    seen.add(key)
                    yield key
        async for key in self._companion.list(prefix):
            if key not in seen:
                yield key

    async def url(self, key: str, *, expires_seconds: int | None = None) -> str | None:
        check_key(key)
        beside = await self._companion.url(key, expires_seconds=expires_seconds)
        if not self._may_hold(key) or (beside is None and not self._delivery):
            return beside
        if await self._details(key) is None:
            return beside
        if not self._delivery or self._account_hash is None:
            return None
        base = self._delivery if "://" in self._delivery else f"https://{self._delivery}"
        if urlsplit(base).hostname != "imagedelivery.net":
            base += "/cdn-cgi/imagedelivery"
        return f"{base}/{self._account_hash}/{quote(FOLDER + key)}/{self._variant}"

    async def check(self) -> None:
        key = f"check-{uuid.uuid4()}.png"
        try:
            await self._upload(key, _DOT, "image/png")
        except _Refused as error:
            raise StorageUnreachable(f"{self.name} failed: {error}.") from error
        try:
            if await self._blob(key) != _DOT:
                raise StorageUnreachable(f"{self.name} gave back other bytes than were written.")
            await self.url(key)
        finally:
            await self._delete(key)
        await self._companion.check()

    # -- Cloudflare's API ----------------------------------------------------------------------

    def _may_hold(self, key: str) -> bool:
        return media_type_of(key) in _SIGNATURES and not self._elsewhere(key)

    def _looks_fit(self, key: str, data: bytes, media_type: str) -> bool:
        return (
            self._may_hold(key)
            and media_type in _SIGNATURES
            and len(data) <= MAX_BYTES
            and data.startswith(tuple(_SIGNATURES.values()))
        )

    async def _upload(self, key: str, data: bytes, media_type: str) -> None:
        sha256 = hashlib.sha256(data).hexdigest()
        metadata = {"media_type": media_type, "sha256": sha256, "size_bytes": len(data)}

        def form() -> aiohttp.FormData:
            form = aiohttp.FormData()
            form.add_field("id", FOLDER + key)
            form.add_field("metadata", json.dumps(metadata))
            # Images with names of our own can't be private: Cloudflare allows no signatures there.
            form.add_field("requireSignedURLs", "false")
            name = key.rpartition("/")[2]
            form.add_field("file", data, filename=name, content_type=media_type)
            return form

        try:
            await self._json("POST", "v1", form=form)
        except _Refused as error:
            if _ALREADY_EXISTS not in error.codes:
                raise
            there = await self._details(key)
            # Our own upload, whose answer got lost?
            if there is None or _meta(there).get("sha256") != sha256:
                await self._delete(key)
                await self._json("POST", "v1", form=form)

    async def _details(self, key: str) -> Mapping[str, Any] | None:
        return await self._json("GET", f"v1/{_quoted(key)}")

    async def _blob(self, key: str) -> bytes | None:
        return await self._request("GET", f"v1/{_quoted(key)}/blob")

    async def _delete(self, key: str) -> None:
        await self._request("DELETE", f"v1/{_quoted(key)}")

    async def _keys(self) -> AsyncIterator[str]:
        token = None
        while True:
            query = f"?per_page={PAGE}" + (f"&continuation_token={quote(token)}" if token else "")
            result = await self._json("GET", f"v2{query}") or {}
            for image in result.get("images", ()):
                if image["id"].startswith(FOLDER):
                    yield image["id"].removeprefix(FOLDER)
            token = result.get("continuation_token")
            if not token:
                return

    async def _json(
        self, method: str, path: str, *, form: Callable[[], aiohttp.FormData] | None = None
    ) -> Mapping[str, Any] | None:
        body = await self._request(method, path, form=form)
        if body is None:
            return None
        try:
            result: Mapping[str, Any] = json.loads(body)["result"] or {}
            for variant in result.get("variants", ()):
                # https://HOST[/cdn-cgi/imagedelivery]/ACCOUNT_HASH/FOLDER...
                before, found, _ = str(variant).partition(f"/{FOLDER}")
                if found:
                    self._account_hash = before.rpartition("/")[2]
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise StorageUnreachable(f"{self.name} gave an answer that is none.") from error
        return result

    async def _request(
        self, method: str, path: str, *, form: Callable[[], aiohttp.FormData] | None = None
    ) -> bytes | None:
        """The body of an answer, None where there is no such image; hiccups are bridged."""
        async for attempt in stamina.retry_context(
            on=_Busy,
            attempts=TRIES,
            wait_initial=FIRST_PAUSE_SECONDS,
            wait_max=LONGEST_PAUSE_SECONDS,
        ):
            with attempt:
                return await self._ask(method, path, form() if form is not None else None)
        raise AssertionError  # the last attempt raises

    async def _ask(self, method: str, path: str, form: aiohttp.FormData | None) -> bytes | None:
        if self._session is None:
            raise RuntimeError("CloudflareImages is used outside of its `async with`")
        url = URL(f"{self._base}/{path}", encoded=True)
        try:
            async with self._session.request(method, url, data=form) as answer:
                body = await answer.read()
                status = answer.status
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            reason = str(error) or type(error).__name__
            raise _Busy(f"{self.name} failed: {reason}") from error
        if status < 300:
            return body
        codes, reason = _errors(body, status)
        if status == 429 or status >= 500:
            raise _Busy(f"{self.name} failed: {reason}.")
        if codes & _NO_SUCH_ACCOUNT:
            raise BucketMissing(f"{self.name} does not exist: {reason}.", hint=_HINT)
        if status in (401, 403) or codes & _BAD_HEADERS:
            raise StorageForbidden(f"{self.name} refused us access: {reason}.", hint=_HINT)
        if status == 404 and form is None:
            return None
        if form is None:
            raise StorageUnreachable(f"{self.name} failed: {reason}.")
        raise _Refused(reason, codes)


def _errors(body: bytes, status: int) -> tuple[set[int], str]:
    """The codes and the words of ``{"success": false, "errors": [{"code", "message"}]}``."""
    try:
        errors = json.loads(body)["errors"]
        codes = {int(error["code"]) for error in errors}
        words = ", ".join(str(error["message"]).rstrip(".") for error in errors)
    except (ValueError, KeyError, TypeError):
        return set(), f"it answered {status}"
    return codes, f"{words} (it answered {status})"


def _quoted(key: str) -> str:
    return quote(FOLDER + key, safe="")


def _meta(details: Mapping[str, Any]) -> Mapping[str, Any]:
    return details.get("meta") or {}


def _info(key: str, details: Mapping[str, Any], data: bytes | None = None) -> ObjectInfo:
    meta = _meta(details)
    sha256 = meta.get("sha256") or hashlib.sha256(data or b"").hexdigest()
    return ObjectInfo(
        size=int(meta["size_bytes"]) if data is None else len(data),
        etag=f'"{sha256[:32]}"',
        media_type=meta.get("media_type") or media_type_of(key),
        modified=datetime.fromisoformat(details["uploaded"]).astimezone(UTC),
    )


async def _chunks(data: bytes) -> AsyncIterator[bytes]:
    for start in range(0, len(data), CHUNK_BYTES):
        yield data[start : start + CHUNK_BYTES]
