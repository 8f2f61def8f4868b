"""What every store does alike."""

import asyncio
import io
import random
import urllib.request
from datetime import UTC, datetime, timedelta

import pytest
from PIL import Image

from atelier.storage import (
    KeyInvalid,
    ObjectInfo,
    ObjectMissing,
    RangeInvalid,
    Store,
    Stream,
)


def picture(seed: int, side: int = 60) -> bytes:
    """Noise, since some stores look whether a PNG is one; large where that can't be packed."""
    out = io.BytesIO()
    noise = random.Random(seed).randbytes(side * side * 3)
    Image.frombytes("RGB", (side, side), noise).save(out, "PNG")
    return out.getvalue()


PNG = picture(1)
OLD, NEWER = picture(2, side=8), picture(3, side=9)


async def all_of(stream: Stream) -> bytes:
    return b"".join([chunk async for chunk in stream.chunks])


def test_it_is_a_store(store: Store) -> None:
    port: Store = store
    assert port is store


async def test_what_was_put_is_got(store: Store) -> None:
    await store.put("outputs/a.png", PNG, "image/png")
    assert await store.get("outputs/a.png") == PNG


async def test_nothing_at_all_can_be_kept(store: Store) -> None:
    await store.put("empty.txt", b"", "text/plain")
    assert await store.get("empty.txt") == b""
    stream = await store.open("empty.txt")
    assert (await all_of(stream), stream.start, stream.end) == (b"", 0, 0)


async def test_putting_again_replaces(store: Store) -> None:
    await store.put("a.png", OLD, "image/png")
    before = await store.head("a.png")
    await store.put("a.png", NEWER, "image/png")
    after = await store.head("a.png")
    assert await store.get("a.png") == NEWER
    assert before is not None
    assert after is not None
    assert before.etag != after.etag


TYPES = [
    ("a.png", "image/png"),
    ("a.jpg", "image/jpeg"),
    ("a.webp", "image/webp"),
    ("a.avif", "image/avif"),
    ("a.mp4", "video/mp4"),
    ("a.webm", "video/webm"),
    ("a.flac", "audio/flac"),
    ("a.txt", "text/plain"),
    ("a.glb", "model/gltf-binary"),
    ("a.bin", "application/octet-stream"),
]


async def test_head_tells_size_type_and_time(store: Store) -> None:
    for key, media_type in TYPES:
        await store.put(key, PNG, media_type)
        info = await store.head(key)
        assert isinstance(info, ObjectInfo)
        assert (info.size, info.media_type) == (len(PNG), media_type)
        assert abs(datetime.now(UTC) - info.modified) < timedelta(minutes=1)


async def test_the_etag_is_quoted_and_stays(store: Store) -> None:
    await store.put("a.png", PNG, "image/png")
    info = await store.head("a.png")
    assert info is not None
    assert info.etag.startswith('"')
    assert info.etag.endswith('"')
    assert await store.head("a.png") == info
    assert (await store.open("a.png")).info == info
    assert (await store.open("a.png", start=5, end=9)).info == info


PARTS = [
    (0, None, PNG),
    (0, 1, PNG[:1]),
    (0, 100, PNG[:100]),
    (5, 9, PNG[5:9]),
    (10_000, None, PNG[10_000:]),
    (10_000, 1_000_000, PNG[10_000:]),
    (len(PNG) - 1, None, PNG[-1:]),
    (len(PNG) - 1, len(PNG), PNG[-1:]),
]


async def test_a_part_is_read(store: Store) -> None:
    await store.put("a.png", PNG, "image/png")
    for start, end, wanted in PARTS:
        stream = await store.open("a.png", start=start, end=end)
        assert (stream.start, stream.end) == (start, start + len(wanted))
        assert stream.info.size == len(PNG)
        assert stream.info.media_type == "image/png"
        assert await all_of(stream) == wanted


NOTHING_IN_THEM = [
    (len(PNG), None),
    (len(PNG), len(PNG) + 5),
    (10**9, None),
    (5, 5),
    (5, 4),
    (-5, None),
]


async def test_a_part_with_nothing_in_it_is_refused(store: Store) -> None:
    await store.put("a.png", PNG, "image/png")
    for start, end in NOTHING_IN_THEM:
        with pytest.raises(RangeInvalid) as caught:
            await store.open("a.png", start=start, end=end)
        assert caught.value.data.get("size", len(PNG)) == len(PNG)


async def test_something_large_comes_whole(store: Store) -> None:
    large = PNG * 300
    await store.put("large.bin", large, "application/octet-stream")
    assert await all_of(await store.open("large.bin", start=1)) == large[1:]


async def test_a_reader_who_leaves_early_leaves_nothing_open(store: Store) -> None:
    await store.put("large.bin", PNG * 300, "application/octet-stream")
    stream = await store.open("large.bin")
    async for chunk in stream.chunks:
        assert chunk
        break
    await stream.chunks.aclose()  # type: ignore[attr-defined]
    assert await store.get("large.bin") == PNG * 300


async def test_what_is_missing_is_said_to_be(store: Store) -> None:
    await store.put("folder/a.png", PNG, "image/png")
    for key in ("b.png", "folder", "folder/b.png", "folder/a.png/b.png"):
        assert await store.head(key) is None
        for read in (store.get, store.open):
            with pytest.raises(ObjectMissing) as caught:
                await read(key)
            assert key in caught.value.message


async def test_deleting_removes_and_may_be_repeated(store: Store) -> None:
    await store.put("a/b/c.png", PNG, "image/png")
    await store.delete("a/b/c.png")
    await store.delete("a/b/c.png")
    await store.delete("never/there.png")
    assert await store.head("a/b/c.png") is None
    assert [key async for key in store.list()] == []


async def test_listing_goes_by_folders(store: Store) -> None:
    keys = {"a.png", "outputs/1/a.png", "outputs/1/b.png", "outputs/2/c.png", "outputs2/d.png"}
    for key in keys:
        await store.put(key, OLD, "image/png")
    assert {key async for key in store.list()} == keys
    assert {key async for key in store.list("outputs/")} == {k for k in keys if "outputs/" in k}
    assert {key async for key in store.list("outputs/1")} == {"outputs/1/a.png", "outputs/1/b.png"}
    assert [key async for key in store.list("nothing")] == []


UNUSUAL = ["a b.png", "größe/图.png", "50%.png", "a+b&c=d.png", "q?x.png", "a..b.png", ".hidden"]


async def test_unusual_names_are_only_names(store: Store) -> None:
    for key in UNUSUAL:
        await store.put(key, PNG, "image/png")
        assert await store.get(key) == PNG
        assert [found async for found in store.list()] == [key]
        await store.delete(key)


REFUSED_KEYS = [
    "",
    ".",
    "..",
    "/",
    "/etc/passwd",
    "../secret.png",
    "a/../../secret.png",
    "a/./b.png",
    "a//b.png",
    "a/",
    "a\\b.png",
    "..\\secret.png",
    "C:/secret.png",
    "c:secret.png",
    "a\0.png",
    "a\n.png",
    "a\x7f.png",
    "a./b.png",
    "trailing ",
    "a.png#1",
    "x" * 513,
]


async def test_no_key_leaves_the_store(store: Store) -> None:
    for key in REFUSED_KEYS:
        with pytest.raises(KeyInvalid):
            await store.put(key, b"x", "image/png")
        for act in (store.get, store.head, store.open, store.delete, store.url):
            with pytest.raises(KeyInvalid):
                await act(key)
    assert [found async for found in store.list()] == []


async def test_listing_outside_is_refused(store: Store) -> None:
    with pytest.raises(KeyInvalid):
        async for _ in store.list("../"):
            pass


async def test_many_at_once_do_not_disturb_each_other(store: Store) -> None:
    bodies = {f"outputs/{n % 5}/{n}.png": picture(n, side=5) for n in range(40)}
    await asyncio.gather(*(store.put(key, body, "image/png") for key, body in bodies.items()))
    got = await asyncio.gather(*(store.get(key) for key in bodies))
    assert got == list(bodies.values())


async def test_readers_see_the_old_or_the_new_whole(store: Store) -> None:
    old, new = b"a" * 300_000, b"b" * 400_000
    await store.put("a.bin", old, "application/octet-stream")
    ended = False

    async def read() -> set[bytes]:
        seen = set()
        while not ended:
            seen.add(await store.get("a.bin"))
        return seen

    reading = asyncio.create_task(read())
    for body in (new, old, new, old, new):
        await store.put("a.bin", body, "application/octet-stream")
    ended = True
    assert await reading <= {old, new}
    assert await store.get("a.bin") == new


async def test_cancelling_a_put_leaves_all_or_nothing(store: Store) -> None:
    body = bytes(5_000_000)
    for pause in (0, 0.001, 0.003):
        putting = asyncio.create_task(store.put("a.bin", body, "application/octet-stream"))
        await asyncio.sleep(pause)
        putting.cancel()
        await asyncio.gather(putting, return_exceptions=True)
        assert await store.head("a.bin") is None or await store.get("a.bin") == body
    assert {key async for key in store.list()} <= {"a.bin"}


async def test_urls_are_signed_or_none(store: Store) -> None:
    await store.put("größe/a b.png", PNG, "image/png")
    url = await store.url("größe/a b.png", expires_seconds=60)
    if url is None:
        return  # only we can serve it
    if "Expires" in url:
        assert "-Expires=60&" in url

    def download() -> tuple[bytes, str]:
        with urllib.request.urlopen(url, timeout=5) as answer:
            return answer.read(), answer.headers["Content-Type"]

    assert await asyncio.to_thread(download) == (PNG, "image/png")


async def test_check_passes_and_leaves_nothing(store: Store) -> None:
    await store.check()
    assert [key async for key in store.list()] == []
