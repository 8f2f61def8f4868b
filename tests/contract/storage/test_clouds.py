"""What Google and Cloudflare have to themselves, and what their troubles become."""

import io
import random
from pathlib import Path

import pytest
from cloudflare_server import ACCOUNT, HASH, TOKEN, CloudflareServer
from cryptography.hazmat.primitives.asymmetric import rsa
from google_server import BUCKET, GoogleServer
from PIL import Image

from atelier.errors import ConfigurationError, StorageError
from atelier.storage import (
    BucketMissing,
    ObjectStore,
    StorageForbidden,
    StorageUnreachable,
    open_store,
)
from atelier.storage.cloudflare_images import CloudflareImages


def picture(seed: int, side: int = 8, form: str = "PNG") -> bytes:
    out = io.BytesIO()
    noise = random.Random(seed).randbytes(side * side * 3)
    Image.frombytes("RGB", (side, side), noise).save(out, form)
    return out.getvalue()


# -- Google ----------------------------------------------------------------------------------------


def google_store(folder: Path, credentials: str, bucket: str = BUCKET) -> ObjectStore:
    path = folder / "account.json"
    path.write_text(credentials)
    return open_store(f"gs://{bucket}/prefix", credentials=str(path))


async def test_a_bucket_that_google_does_not_have_is_said_to_be_missing(
    google: GoogleServer, tmp_path: Path
) -> None:
    with pytest.raises(BucketMissing, match="Bucket other"):
        await google_store(tmp_path, google.credentials(), "other").check()


async def test_a_key_that_google_does_not_know_is_forbidden(
    google: GoogleServer, tmp_path: Path
) -> None:
    stranger = rsa.generate_private_key(65537, 2048)
    with pytest.raises(StorageForbidden, match="Bucket pictures") as caught:
        await google_store(tmp_path, google.credentials(stranger)).check()
    assert "PRIVATE" not in repr(caught.value.as_dict())


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (None, "No such file"),
        ("not JSON", "no JSON object"),
        ("[]", "no JSON object"),
        ('{"type": "service_account", "private_key": "hush"}', "can't be opened"),
    ],
)
def test_credentials_that_are_none_stop_the_start(
    tmp_path: Path, content: str | None, words: str
) -> None:
    path = tmp_path / "account.json"
    if content is not None:
        path.write_text(content)
    with pytest.raises(ConfigurationError, match=words) as caught:
        open_store(f"gs://{BUCKET}", credentials=str(path))
    assert "GOOGLE_APPLICATION_CREDENTIALS" in caught.value.hint
    assert "hush" not in repr(caught.value.as_dict())


async def test_signatures_are_valid_for_as_long_as_the_store_was_told() -> None:
    store = open_store(
        "s3://pictures", url_seconds=90, access_key_id="k", secret_access_key="s", region="r"
    )
    assert "X-Amz-Expires=90&" in (await store.url("a.png") or "")
    assert "X-Amz-Expires=7&" in (await store.url("a.png", expires_seconds=7) or "")


# -- Cloudflare Images -----------------------------------------------------------------------------


def images_store(
    server: CloudflareServer, token: str = TOKEN, account: str = ACCOUNT, **more: str
) -> CloudflareImages:
    return CloudflareImages(
        account,
        token,
        companion=open_store("memory://"),
        api=server.url,
        elsewhere=lambda key: ".converted/" in key,
        **more,
    )


@pytest.mark.parametrize("form", ["PNG", "JPEG", "GIF", "WEBP"])
async def test_images_are_at_cloudflare(cloudflare: CloudflareServer, form: str) -> None:
    async with images_store(cloudflare) as store:
        key = f"outputs/a.{form.lower()}"
        await store.put(key, picture(1, form=form), Image.MIME[form])
        assert list(cloudflare.images) == [f"atelier/{key}"]
        assert await store.get(key) == picture(1, form=form)


@pytest.mark.parametrize(
    ("key", "data", "media_type"),
    [
        # another kind
        ("a.mp4", b"video", "video/mp4"),
        # it can't be told what Cloudflare would make of it
        ("a.svg", b"<svg/>", "image/svg+xml"),
        # larger than 10 MB
        ("a.png", picture(1) + bytes(10 * 1024 * 1024), "image/png"),
        # named as an image, but none
        ("a.png", b"x", "image/png"),
        # one that Cloudflare finds damaged
        ("a.png", picture(1)[:-40], "image/png"),
        # a conversion, which can be made again
        ("a.converted/small.png", picture(1), "image/png"),
    ],
)
async def test_what_is_no_image_for_cloudflare_is_with_the_companion(
    cloudflare: CloudflareServer, key: str, data: bytes, media_type: str
) -> None:
    async with images_store(cloudflare) as store:
        await store.put(key, data, media_type)
        assert cloudflare.images == {}
        assert await store.get(key) == data
        assert [found async for found in store.list()] == [key]


async def test_the_newest_counts_wherever_it_is(cloudflare: CloudflareServer) -> None:
    async with images_store(cloudflare) as store:
        for data in (picture(1), b"x", picture(2)):
            await store.put("a.png", data, "image/png")
            assert await store.get("a.png") == data
            assert [found async for found in store.list()] == ["a.png"]
        await store.delete("a.png")
        assert await store.head("a.png") is None


async def test_images_of_others_in_the_account_are_left_alone(cloudflare: CloudflareServer) -> None:
    other = {"id": "other", "uploaded": "2024-01-01T00:00:00Z", "variants": []}
    cloudflare.images["other"] = (picture(1), other)
    async with images_store(cloudflare) as store:
        assert [found async for found in store.list()] == []
        assert await store.head("other") is None


async def test_an_image_without_our_metadata_is_described_all_the_same(
    cloudflare: CloudflareServer,
) -> None:
    async with images_store(cloudflare) as store:
        await store.put("a.png", picture(1), "image/png")
        before = await store.head("a.png")
        cloudflare.images["atelier/a.png"][1]["meta"] = None
        assert await store.head("a.png") == before


@pytest.mark.parametrize("status", [429, 500, 503])
async def test_a_hiccup_of_cloudflare_is_bridged(cloudflare: CloudflareServer, status: int) -> None:
    cloudflare.troubles = [status, status]
    async with images_store(cloudflare) as store:
        await store.put("a.png", picture(1), "image/png")
        assert await store.get("a.png") == picture(1)


async def test_cloudflare_that_stays_away_is_unreachable(cloudflare: CloudflareServer) -> None:
    cloudflare.troubles = [503] * 5
    async with images_store(cloudflare) as store:
        with pytest.raises(StorageUnreachable, match="try again later") as caught:
            await store.put("a.png", picture(1), "image/png")
        assert caught.value.retryable


async def test_an_upload_whose_answer_was_lost_is_not_done_again(
    cloudflare: CloudflareServer,
) -> None:
    cloudflare.lost_answers = 1
    async with images_store(cloudflare) as store:
        await store.put("a.png", picture(1), "image/png")
        assert await store.get("a.png") == picture(1)
    assert cloudflare.deletions == 0


@pytest.mark.parametrize(
    ("given", "error"),
    [
        ({"token": "wrong"}, StorageForbidden),
        ({"account": "f" * 32}, BucketMissing),
    ],
)
async def test_wrong_cloudflare_credentials_become_a_sentence(
    cloudflare: CloudflareServer, given: dict[str, str], error: type[StorageError]
) -> None:
    async with images_store(cloudflare, **given) as store:
        with pytest.raises(error, match="Cloudflare Images") as caught:
            await store.check()
    assert "CF_IMAGES_API_TOKEN" in caught.value.hint
    assert not caught.value.retryable
    assert "wrong" not in caught.value.message


async def test_nobody_at_cloudflares_address_is_unreachable(
    cloudflare: CloudflareServer, unused_tcp_port: int
) -> None:
    companion = open_store("memory://")
    api = f"http://127.0.0.1:{unused_tcp_port}"
    async with CloudflareImages(ACCOUNT, TOKEN, companion=companion, api=api) as store:
        with pytest.raises(StorageUnreachable):
            await store.check()


@pytest.mark.parametrize(
    ("domain", "base"),
    [
        ("imagedelivery.net", "https://imagedelivery.net"),
        ("pictures.example.com", "https://pictures.example.com/cdn-cgi/imagedelivery"),
        ("https://pictures.example.com/", "https://pictures.example.com/cdn-cgi/imagedelivery"),
    ],
)
async def test_addresses_are_those_of_the_delivery_domain(
    cloudflare: CloudflareServer, domain: str, base: str
) -> None:
    async with images_store(cloudflare, delivery_domain=domain, variant="large") as store:
        await store.put("a b.png", picture(1), "image/png")
        await store.put("a.mp4", b"video", "video/mp4")
        assert await store.url("a b.png") == f"{base}/{HASH}/atelier/a%20b.png/large"
        assert await store.url("a.mp4") is None


@pytest.mark.parametrize(
    "url", ["cf-images://", "cf-images://key:hush@account", "cf-images://account/folder"]
)
def test_a_cloudflare_address_that_means_nothing_stops_the_start(url: str) -> None:
    with pytest.raises(ConfigurationError, match="cf-images://ACCOUNT") as caught:
        CloudflareImages.of_url(url, companion=open_store("memory://"), api_token=TOKEN)
    assert "hush" not in repr(caught.value.as_dict())
