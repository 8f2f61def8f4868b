"""Conversions are made once, and only so many are kept."""

import asyncio
import io

import pytest
from PIL import Image

from atelier.media import Asset, Conversion
from atelier.media.asset import derivatives_folder
from atelier.service import derivatives as module
from atelier.service.derivatives import Derivatives
from atelier.storage.objects import open_store
from atelier.storage.store import ObjectMissing, StorageUnreachable

ASSET = Asset(
    id="a",
    user="ada",
    kind="output",
    key="outputs/ab/job/1-a.png",
    media_type="image/png",
    width=64,
    height=48,
    size_bytes=1,
    sha256="f" * 64,
)


@pytest.fixture
async def store(tmp_path):
    store = open_store(str(tmp_path / "store"))
    out = io.BytesIO()
    Image.new("RGB", (64, 48), (200, 40, 40)).save(out, "PNG")
    await store.put(ASSET.key, out.getvalue(), "image/png")
    return store


@pytest.fixture
def made(monkeypatch):
    """How often something was converted."""
    convert, calls = module.convert, []

    async def counted(data, conversion):
        calls.append(conversion)
        return await convert(data, conversion)

    monkeypatch.setattr(module, "convert", counted)
    return calls


async def kept(store):
    return [key async for key in store.list(derivatives_folder(ASSET.key))]


async def test_several_who_ask_at_once_share_one_conversion(store, made):
    service = Derivatives(store)
    found = await asyncio.gather(*(service.get(ASSET, Conversion("webp")) for _ in range(6)))
    assert len(made) == 1
    assert len({one.info.etag for one in found}) == 1
    again = await Derivatives(store).get(ASSET, Conversion("webp"))
    assert len(made) == 1, "another process finds it in the store"
    assert again.info.etag == found[0].info.etag
    assert again.info.media_type == "image/webp"


async def test_one_who_goes_away_takes_nothing_from_the_others(store, made):
    service = Derivatives(store)
    first = asyncio.create_task(service.get(ASSET, Conversion("webp")))
    second = asyncio.create_task(service.get(ASSET, Conversion("webp")))
    await asyncio.sleep(0)
    first.cancel()
    assert (await second).info.size
    assert len(made) == 1


async def test_different_conversions_are_different_files(store):
    service = Derivatives(store)
    wanted = [Conversion("webp"), Conversion("webp", 50), Conversion("webp", 50, 32)]
    found = [await service.get(ASSET, one) for one in wanted]
    assert len({one.info.etag for one in found}) == len(await kept(store)) == 3


async def test_what_would_fill_the_store_is_made_but_not_kept(store, monkeypatch):
    monkeypatch.setattr(module, "MOST_KEPT", 2)
    service = Derivatives(store)
    found = [await service.get(ASSET, Conversion(max_size=size)) for size in (10, 20, 30)]
    assert [one.data is None for one in found] == [True, True, False]
    assert Image.open(io.BytesIO(found[2].data)).size == (30, 23)
    assert len(await kept(store)) == 2


async def test_picture_is_answered_although_the_store_takes_nothing(store, monkeypatch):
    async def refuse(*_):
        raise StorageUnreachable("full")

    monkeypatch.setattr(store, "put", refuse)
    found = await Derivatives(store).get(ASSET, Conversion("webp"))
    assert found.data.startswith(b"RIFF")


async def test_missing_picture_is_missing_for_all_who_asked(store):
    await store.delete(ASSET.key)
    service = Derivatives(store)
    for _ in range(2):
        with pytest.raises(ObjectMissing):
            await service.get(ASSET, Conversion("webp"))
