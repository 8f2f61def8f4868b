"""Pictures from addresses that users chose."""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from email.utils import parsedate_to_datetime

import aiohttp
from yarl import URL

from atelier.errors import MediaRejected, MediaUnavailable
from atelier.media.cache import CachedDownload, DownloadCache
from atelier.media.data_url import decode_data_url
from atelier.media.decode import PICTURES
from atelier.media.rejections import not_an_image
from atelier.media.sniff import sniff
from atelier.outbound import MAX_REDIRECTS, GuardedSession, UrlRefused, UrlUnreachable, shown

__all__ = [
    "DownloadTooLarge",
    "Fetched",
    "Fetcher",
    "UrlRefused",
    "UrlStatus",
    "UrlUnavailable",
    "UrlUnreachable",
]

MAX_BYTES = 25_000_000
TOTAL_SECONDS = 20.0
CONCURRENCY = 10
CHUNK_BYTES = 64 * 1024
# Too early, too often, or waiting for us too long: said with 4xx, but passing.
_PASSING_STATUSES = frozenset({408, 425, 429})


class UrlStatus(MediaRejected):
    """The server answered that there is no picture for us (4xx); ``data["status"]``."""

    code = "URL_STATUS"
    default_hint = "Check that the address opens in a private browser window, without a login."


class UrlUnavailable(MediaUnavailable):
    """The server answered that it can't just now (5xx, 429); ``data["status"]``.

    ``data["retry_after_seconds"]`` is what it asked for, if it did.
    """

    code = "URL_UNAVAILABLE"
    default_hint = "The other server has a problem; it is tried again by itself."


class DownloadTooLarge(MediaRejected):
    """The download has more bytes than are taken."""

    code = "DOWNLOAD_TOO_LARGE"
    default_hint = "Send a smaller picture, for example a JPEG."


@dataclass(frozen=True, slots=True)
class Fetched:
    """A download: its bytes, the media type that they show, where they came from in the end."""

    data: bytes
    media_type: str
    final_url: str
    etag: str | None = None


class Fetcher:
    """Fetches pictures, at most ``concurrency`` at once; never tries twice.

    The session is the caller's, and open while this is used. With a ``cache`` an address
    whose server knows ETag or Last-Modified is not transferred again while it is unchanged.
    """

    def __init__(
        self,
        session: GuardedSession,
        *,
        cache: DownloadCache | None = None,
        max_bytes: int = MAX_BYTES,
        total_seconds: float = TOTAL_SECONDS,
        max_redirects: int = MAX_REDIRECTS,
        concurrency: int = CONCURRENCY,
    ) -> None:
        self._session = session
        self._cache = cache
        self._max_bytes = max_bytes
        self._total_seconds = total_seconds
        self._max_redirects = max_redirects
        self._slots = asyncio.Semaphore(concurrency)

    async def fetch(self, url: str) -> Fetched:
        """The picture at an http, https or data: address.

        Raises UrlRefused, UrlStatus, DownloadTooLarge or NotAnImage, which trying again
        doesn't change, and UrlUnreachable or UrlUnavailable, which it may.
        """
        url = url.strip()
        if url[:5].lower() == "data:":
            # Three bytes are four characters in base64, and at most nine percent-encoded.
            if len(url) > self._max_bytes * 9 + 200:
                raise self._too_large()
            data = await asyncio.to_thread(decode_data_url, url)
            if len(data) > self._max_bytes:
                raise self._too_large()
            return Fetched(data, _picture_type(data), "data:")
        self._session.check(url)
        async with self._slots:
            cached = await self._cache.get(url) if self._cache else None
            return await self._download(url, cached)

    async def _download(self, url: str, cached: CachedDownload | None) -> Fetched:
        def headers(target: URL) -> Mapping[str, str]:
            # Pictures gain nothing from compression, and a small one could hide a bomb.
            plain = {"Accept": "image/*,*/*;q=0.5", "Accept-Encoding": "identity"}
            if cached is not None and str(target) == cached.final_url:
                return plain | cached.condition()
            return plain

        async with self._session.request(
            "GET",
            url,
            headers=headers,
            total_seconds=self._total_seconds,
            max_redirects=self._max_redirects,
        ) as response:
            if response.status == 304 and cached is not None:
                return Fetched(
                    cached.data, cached.media_type, cached.final_url, cached.etag or None
                )
            if response.status != 200:
                raise _status_error(response)
            data = await self._read(response)
            etag = response.headers.get("ETag")
            fetched = Fetched(data, _picture_type(data), str(response.url), etag)
            modified = response.headers.get("Last-Modified")
            may_keep = "no-store" not in response.headers.get("Cache-Control", "").lower()
        if self._cache and may_keep and (etag or modified):
            await self._cache.put(
                CachedDownload(
                    url=url,
                    final_url=fetched.final_url,
                    etag=etag or "",
                    last_modified=modified or "",
                    media_type=fetched.media_type,
                    data=data,
                )
            )
        return fetched

    async def _read(self, response: aiohttp.ClientResponse) -> bytes:
        if (response.content_length or 0) > self._max_bytes:
            raise self._too_large()
        body = bytearray()
        # Counted after decompression: the announced length says nothing about that.
        async for chunk in response.content.iter_chunked(CHUNK_BYTES):
            body += chunk
            if len(body) > self._max_bytes:
                raise self._too_large()
        return bytes(body)

    def _too_large(self) -> DownloadTooLarge:
        return DownloadTooLarge(
            f"The download has more than {self._max_bytes / 1e6:g} MB.", max_bytes=self._max_bytes
        )


def _picture_type(data: bytes) -> str:
    media_type = sniff(data)
    if media_type not in PICTURES:
        raise not_an_image(media_type, empty=not data)
    return media_type


def _status_error(response: aiohttp.ClientResponse) -> UrlStatus | UrlUnavailable:
    status, where = response.status, shown(response.url)
    message = f"{where} answered {status} {response.reason or ''}".rstrip() + "."
    if status >= 500 or status in _PASSING_STATUSES:
        seconds = _retry_after_seconds(response)
        if seconds is None:
            return UrlUnavailable(message, status=status)
        return UrlUnavailable(message, status=status, retry_after_seconds=seconds)
    return UrlStatus(message, status=status)


def _retry_after_seconds(response: aiohttp.ClientResponse) -> int | None:
    value = response.headers.get("Retry-After", "").strip()
    if value.isascii() and value.isdigit() and len(value) < 10:
        return int(value)
    try:
        until = parsedate_to_datetime(value)
        now = parsedate_to_datetime(response.headers.get("Date", ""))
        return max(0, int((until - now).total_seconds()))
    except (TypeError, ValueError):
        return None
