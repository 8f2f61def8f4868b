"""Fetching, against servers that behave well and servers that don't."""

import asyncio
import base64
import contextlib
import gzip
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from PIL import Image

from atelier.errors import AtelierError
from atelier.media import (
    DownloadCache,
    DownloadTooLarge,
    Fetcher,
    NotAnImage,
    UrlRefused,
    UrlStatus,
    UrlUnavailable,
    UrlUnreachable,
)
from atelier.media.cache import CachedDownload
from atelier.outbound import GuardedSession

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


@pytest.fixture(scope="session")
def png(scene: Image.Image, encode: Callable[..., bytes]) -> bytes:
    return encode(scene)


@contextlib.asynccontextmanager
async def fetcher(handler: Handler, **options: Any) -> AsyncIterator[tuple[Fetcher, str]]:
    """A Fetcher that may reach a server which answers with ``handler``, and its address."""
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", handler)
    async with (
        TestServer(app, host="127.0.0.1") as server,
        GuardedSession(["127.0.0.1"]) as session,
    ):
        yield Fetcher(session, **options), str(server.make_url("/picture"))


@contextlib.asynccontextmanager
async def raw_fetcher(answer: bytes, **options: Any) -> AsyncIterator[tuple[Fetcher, str]]:
    """A Fetcher and the address of a server that writes ``answer`` and closes."""

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(answer)
        with contextlib.suppress(ConnectionError):
            await writer.drain()
        writer.close()

    server = await asyncio.start_server(talk, "127.0.0.1", 0)
    async with server, GuardedSession(["127.0.0.1"]) as session:
        port = server.sockets[0].getsockname()[1]
        yield Fetcher(session, **options), f"http://127.0.0.1:{port}/picture"


def answering(body: bytes, **options: Any) -> Handler:
    async def handler(request: web.Request) -> web.Response:
        return web.Response(body=body, **options)

    return handler


def files_in(folder: Path) -> list[Path]:
    return list(folder.iterdir())


async def refusal(fetch: Fetcher, url: str, kind: type[AtelierError]) -> AtelierError:
    with pytest.raises(kind) as caught:
        await fetch.fetch(url)
    assert type(caught.value) is kind
    assert caught.value.message
    assert caught.value.hint
    return caught.value


async def test_a_picture_arrives_with_the_type_of_its_bytes(png: bytes) -> None:
    async with fetcher(answering(png, content_type="text/plain", headers={"ETag": '"7"'})) as (
        fetch,
        url,
    ):
        got = await fetch.fetch(url)
    assert (got.data, got.media_type, got.final_url, got.etag) == (png, "image/png", url, '"7"')


async def test_the_address_at_the_end_of_redirects_is_told(png: bytes) -> None:
    async def handler(request: web.Request) -> web.Response:
        if request.path == "/picture":
            raise web.HTTPFound("/moved?to=here")
        return web.Response(body=png)

    async with fetcher(handler) as (fetch, url):
        assert (await fetch.fetch(url)).final_url.endswith("/moved?to=here")


@pytest.mark.parametrize(
    ("body", "hint"),
    [
        (b"<!doctype html><title>Sign in</title>", "web page"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "PNG"),
        (b'{"error": "gone"}', "can be read"),
        (b"", "can be read"),
    ],
)
async def test_an_answer_that_is_no_picture_is_final(body: bytes, hint: str) -> None:
    async with fetcher(answering(body, content_type="image/png")) as (fetch, url):
        error = await refusal(fetch, url, NotAnImage)
    assert hint in error.hint
    assert not error.retryable


@pytest.mark.parametrize("status", [400, 401, 403, 404, 410, 451, 204, 206, 300])
async def test_a_no_is_final(status: int) -> None:
    async with fetcher(answering(b"", status=status)) as (fetch, url):
        error = await refusal(fetch, url, UrlStatus)
    assert not error.retryable
    assert error.data["status"] == status
    assert str(status) in error.message


@pytest.mark.parametrize("status", [408, 425, 429, 500, 502, 503, 504])
async def test_a_not_now_is_worth_another_try(status: int) -> None:
    async with fetcher(answering(b"", status=status)) as (fetch, url):
        error = await refusal(fetch, url, UrlUnavailable)
    assert error.retryable
    assert error.data == {"status": status}


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("120", 120),
        ("Thu, 01 Jan 2026 00:02:00 GMT", 60),
        ("Wed, 31 Dec 2025 00:00:00 GMT", 0),
        ("soon", None),
        ("²", None),
    ],
)
async def test_the_wait_that_a_server_asks_for_is_told(value: str, seconds: int | None) -> None:
    headers = {"Retry-After": value, "Date": "Thu, 01 Jan 2026 00:01:00 GMT"}
    async with fetcher(answering(b"", status=503, headers=headers)) as (fetch, url):
        error = await refusal(fetch, url, UrlUnavailable)
    assert error.data.get("retry_after_seconds") == seconds


async def test_an_announced_size_above_the_limit_is_not_downloaded() -> None:
    answer = b"HTTP/1.1 200 OK\r\nContent-Length: 1001\r\n\r\n"
    async with raw_fetcher(answer, max_bytes=1000) as (fetch, url):
        error = await refusal(fetch, url, DownloadTooLarge)
    assert not error.retryable


async def test_an_unannounced_size_above_the_limit_is_cut_off() -> None:
    sent = 0

    async def handler(request: web.Request) -> web.StreamResponse:
        nonlocal sent
        response = web.StreamResponse()
        await response.prepare(request)
        with contextlib.suppress(ConnectionError):
            while sent < 200_000_000:
                await response.write(bytes(100_000))
                sent += 100_000
        return response

    async with fetcher(handler, max_bytes=1_000_000) as (fetch, url):
        await refusal(fetch, url, DownloadTooLarge)
    assert sent < 100_000_000


async def test_exactly_the_limit_is_taken(png: bytes) -> None:
    async with fetcher(answering(png), max_bytes=len(png)) as (fetch, url):
        assert (await fetch.fetch(url)).data == png
    async with fetcher(answering(png), max_bytes=len(png) - 1) as (fetch, url):
        await refusal(fetch, url, DownloadTooLarge)


async def test_a_compressed_bomb_is_counted_unpacked() -> None:
    bomb = gzip.compress(bytes(50_000_000))
    assert len(bomb) < 100_000
    handler = answering(bomb, headers={"Content-Encoding": "gzip"})
    async with fetcher(handler, max_bytes=1_000_000) as (fetch, url):
        await refusal(fetch, url, DownloadTooLarge)


async def test_a_server_that_compresses_unasked_is_understood(png: bytes) -> None:
    asked: list[str] = []

    async def handler(request: web.Request) -> web.Response:
        asked.append(request.headers["Accept-Encoding"])
        return web.Response(body=gzip.compress(png), headers={"Content-Encoding": "gzip"})

    async with fetcher(handler) as (fetch, url):
        assert (await fetch.fetch(url)).data == png
    assert asked == ["identity"]


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\n\x89PNG\r\n\x1a\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n8\r\n\x89PNG\r\n\x1a\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 4\r\n\r\nnope",
        b"HTTP/1.1 200 OK\r\nContent-Length: -5\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nX: " + b"x" * 20_000 + b"\r\n\r\n",
        b"SSH-2.0-OpenSSH_9.6\r\n",
        b"",
    ],
)
async def test_a_broken_answer_is_worth_another_try(answer: bytes) -> None:
    async with raw_fetcher(answer) as (fetch, url):
        error = await refusal(fetch, url, UrlUnreachable)
    assert error.retryable


async def test_a_body_longer_than_announced_ends_where_announced(png: bytes) -> None:
    head = f"HTTP/1.1 200 OK\r\nContent-Length: {len(png)}\r\n\r\n".encode()
    async with raw_fetcher(head + png + b"HTTP/1.1 200 OK\r\n\r\nsmuggled") as (fetch, url):
        assert (await fetch.fetch(url)).data == png


async def test_a_picture_that_trickles_in_is_given_up() -> None:
    async def handler(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        with contextlib.suppress(ConnectionError):
            for _ in range(1000):
                await response.write(b"\x89")
                await asyncio.sleep(0.02)
        return response

    async with fetcher(handler, total_seconds=0.2) as (fetch, url):
        error = await refusal(fetch, url, UrlUnreachable)
    assert "0.2 s" in error.message


async def test_only_so_many_are_fetched_at_once(png: bytes) -> None:
    running = most = 0

    async def handler(request: web.Request) -> web.Response:
        nonlocal running, most
        running += 1
        most = max(most, running)
        await asyncio.sleep(0.02)
        running -= 1
        return web.Response(body=png)

    async with fetcher(handler, concurrency=3) as (fetch, url):
        await asyncio.gather(*(fetch.fetch(url) for _ in range(12)))
    assert most == 3


async def test_addresses_inside_are_refused_before_any_slot_is_taken() -> None:
    async with GuardedSession() as session:
        for url in ("http://169.254.169.254/", "file:///etc/passwd", "picture.png", ""):
            await refusal(Fetcher(session, concurrency=1), url, UrlRefused)


BASE64 = (
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mP8z8BQDwAEhQGAhKmMIQAA"
    "AABJRU5ErkJggg=="
)
DOT = base64.b64decode(BASE64)


@pytest.mark.parametrize(
    "url",
    [
        f"data:image/png;base64,{BASE64}",
        f"DATA:;BASE64,{BASE64}",
        f"data:text/plain;charset=x;base64,{BASE64}",
        f"  data:image/png;base64,{BASE64}\n",
        f"data:image/png;base64,{BASE64.rstrip('=')}",
        f"data:image/png;base64,{BASE64.replace('+', '-').replace('/', '_')}",
        f"data:image/png;base64,{BASE64[:40]}\r\n {BASE64[40:]}",
        f"data:image/png;base64,{quote(BASE64, safe='')}",
        f"data:image/png,{quote(DOT)}",
    ],
)
async def test_data_urls_hold_the_picture_themselves(url: str) -> None:
    async with GuardedSession() as session:
        got = await Fetcher(session).fetch(url)
    assert (got.data, got.media_type, got.final_url) == (DOT, "image/png", "data:")


@pytest.mark.parametrize(
    ("url", "kind"),
    [
        ("data:image/png;base64", UrlRefused),
        ("data:image/png;base64,????", NotAnImage),
        ("data:image/png;base64,A", NotAnImage),
        ("data:image/png;base64,", NotAnImage),
        ("data:,hello", NotAnImage),
        ("data:image/svg+xml,<svg/>", NotAnImage),
        (f"data:;base64,{base64.b64encode(bytes(3000)).decode()}", DownloadTooLarge),
        ("data:," + "x" * 20_000, DownloadTooLarge),
    ],
)
async def test_bad_data_urls_are_refused(url: str, kind: type[AtelierError]) -> None:
    async with GuardedSession() as session:
        error = await refusal(Fetcher(session, max_bytes=2000), url, kind)
    assert not error.retryable
    assert len(error.message) < 200


class Versioned:
    """A server of one picture that answers conditional requests."""

    def __init__(self, body: bytes, **headers: str) -> None:
        self.body, self.headers, self.status = body, headers, 200
        self.sent: list[int] = []

    async def answer(self, request: web.Request) -> web.Response:
        headers = {name.replace("_", "-"): value for name, value in self.headers.items()}
        same = (
            request.headers.get("If-None-Match") == headers.get("ETag") is not None
            or request.headers.get("If-Modified-Since") == headers.get("Last-Modified") is not None
        )
        self.sent.append(304 if same else self.status)
        if same:
            return web.Response(status=304)
        return web.Response(body=self.body, status=self.status, headers=headers)


@pytest.mark.parametrize(
    "headers", [{"ETag": '"1"'}, {"Last_Modified": "Thu, 01 Jan 2026 00:00:00 GMT"}]
)
async def test_an_unchanged_picture_is_not_sent_again(
    png: bytes, tmp_path: Path, headers: dict[str, str]
) -> None:
    server = Versioned(png, **headers)
    async with fetcher(server.answer, cache=DownloadCache(tmp_path)) as (fetch, url):
        first = await fetch.fetch(url)
        assert await fetch.fetch(url) == first
    assert server.sent == [200, 304]


async def test_a_changed_picture_replaces_the_kept_one(
    png: bytes, encode: Callable[..., bytes], scene: Image.Image, tmp_path: Path
) -> None:
    server = Versioned(png, ETag='"1"')
    async with fetcher(server.answer, cache=DownloadCache(tmp_path)) as (fetch, url):
        await fetch.fetch(url)
        server.body, server.headers = encode(scene, "JPEG"), {"ETag": '"2"'}
        assert (await fetch.fetch(url)).media_type == "image/jpeg"
        assert (await fetch.fetch(url)).media_type == "image/jpeg"
    assert server.sent == [200, 200, 304]
    assert len(files_in(tmp_path)) == 1


@pytest.mark.parametrize("headers", [{}, {"ETag": '"1"', "Cache_Control": "private, no-store"}])
async def test_what_may_not_be_kept_is_not(
    png: bytes, tmp_path: Path, headers: dict[str, str]
) -> None:
    async with fetcher(Versioned(png, **headers).answer, cache=DownloadCache(tmp_path)) as (
        fetch,
        url,
    ):
        await fetch.fetch(url)
    assert files_in(tmp_path) == []


async def test_a_kept_picture_is_never_an_answer_without_asking(png: bytes, tmp_path: Path) -> None:
    server = Versioned(png, ETag='"1"')
    async with fetcher(server.answer, cache=DownloadCache(tmp_path)) as (fetch, url):
        await fetch.fetch(url)
        server.headers, server.status = {}, 404
        await refusal(fetch, url, UrlStatus)


async def test_damaged_and_foreign_files_in_the_cache_count_as_absent(
    png: bytes, tmp_path: Path
) -> None:
    server = Versioned(png, ETag='"1"')
    async with fetcher(server.answer, cache=DownloadCache(tmp_path)) as (fetch, url):
        for damage in (lambda kept: kept[:-1], lambda kept: b"[]\n" + kept, lambda kept: b""):
            await fetch.fetch(url)
            (file,) = files_in(tmp_path)
            file.write_bytes(damage(file.read_bytes()))
            assert (await fetch.fetch(url)).data == png
    assert 304 not in server.sent[:2]


async def test_a_cache_that_cannot_be_written_fails_no_job(png: bytes, tmp_path: Path) -> None:
    blocked = tmp_path / "file"
    blocked.write_bytes(b"")
    server = Versioned(png, ETag='"1"')
    async with fetcher(server.answer, cache=DownloadCache(blocked / "cache")) as (fetch, url):
        assert (await fetch.fetch(url)).data == png


async def test_the_longest_unused_leaves_the_cache_first(tmp_path: Path) -> None:
    cache = DownloadCache(tmp_path, max_bytes=3600)

    def download(name: str, size: int = 1000) -> CachedDownload:
        return CachedDownload(name, name, '"1"', "", "image/png", bytes(size))

    for age, name in enumerate(("a", "b", "c")):
        await cache.put(download(name))
        os.utime(cache._path(name), (1000 + age, 1000 + age))
    assert await cache.get("a") == download("a")  # counts as used now
    await cache.put(download("d"))
    kept = [name for name in "abcd" if await cache.get(name)]
    assert kept == ["a", "c", "d"]
    await cache.put(download("huge", 4000))
    assert await cache.get("huge") is None
    assert len(files_in(tmp_path)) == 3, "and no partial files"
