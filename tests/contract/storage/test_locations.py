"""What each kind of store has to itself: opening, failing, staying inside."""

import asyncio
import os
import stat
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from atelier.errors import ConfigurationError, StorageError
from atelier.storage import (
    BucketMissing,
    KeyInvalid,
    StorageForbidden,
    StorageUnreachable,
    extension_of,
    media_type_of,
    open_store,
)

CREDENTIALS = {"access_key_id": "key", "secret_access_key": "secret", "region": "us-east-1"}


@pytest.mark.parametrize("form", ["{0}", "file://{0}", "{0}/"])
async def test_a_folder_is_made_and_holds_the_files(tmp_path: Path, form: str) -> None:
    folder = tmp_path / "new" / "with space"
    store = open_store(form.format(folder))
    await store.put("outputs/a.png", b"x", "image/png")
    assert (folder / "outputs" / "a.png").read_bytes() == b"x"
    assert str(folder) in store.name


async def test_a_relative_folder_lies_in_the_working_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    await open_store("./data/objects").put("a.png", b"x", "image/png")
    assert (tmp_path / "data" / "objects" / "a.png").exists()


async def test_a_folder_reached_through_a_link_is_a_root_like_any(tmp_path: Path) -> None:
    (tmp_path / "disk").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "disk")
    store = open_store(str(tmp_path / "link"))
    await store.put("a.png", b"x", "image/png")
    assert await store.get("a.png") == b"x"


async def test_a_link_inside_does_not_lead_out(tmp_path: Path) -> None:
    (tmp_path / "secret.txt").write_bytes(b"secret")
    store = open_store(str(tmp_path / "objects"))
    (tmp_path / "objects" / "file.txt").symlink_to(tmp_path / "secret.txt")
    (tmp_path / "objects" / "folder").symlink_to(tmp_path)
    for key in ("file.txt", "folder/secret.txt"):
        for act in (store.get, store.open, store.head, store.delete):
            with pytest.raises(KeyInvalid):
                await act(key)
        with pytest.raises(KeyInvalid):
            await store.put(key, b"overwritten", "text/plain")
    assert (tmp_path / "secret.txt").read_bytes() == b"secret"


async def test_a_folder_keeps_what_a_stopped_writer_left_out_of_sight(tmp_path: Path) -> None:
    store = open_store(str(tmp_path))
    (tmp_path / "a.png#1").write_bytes(b"half")
    assert [key async for key in store.list()] == []
    await store.put("a.png", b"whole", "image/png")
    assert await store.get("a.png") == b"whole"


async def test_large_files_are_not_read_into_memory_whole(tmp_path: Path) -> None:
    store = open_store(str(tmp_path))
    await store.put("a.bin", bytes(5_000_000), "application/octet-stream")
    stream = await store.open("a.bin")
    assert max([len(chunk) async for chunk in stream.chunks]) <= 1_000_000


async def test_a_folder_that_is_gone_for_a_while_is_unreachable(tmp_path: Path) -> None:
    """Else results that could be stored later, when it is back, would fail their jobs."""
    folder, aside = tmp_path / "objects", tmp_path / "aside"
    store = open_store(str(folder))
    await store.put("a/b.png", b"x", "image/png")
    folder.rename(aside)
    folder.write_bytes(b"")
    with pytest.raises(StorageUnreachable) as caught:
        await store.put("new/b.png", b"x", "image/png")
    assert caught.value.retryable
    folder.unlink()
    aside.rename(folder)
    await store.put("new/b.png", b"x", "image/png")


async def test_a_folder_without_rights_is_forbidden(tmp_path: Path) -> None:
    store = open_store(str(tmp_path / "objects"))
    await store.put("a/b.png", b"x", "image/png")
    (tmp_path / "objects" / "a" / "b.png").chmod(0)
    (tmp_path / "objects").chmod(stat.S_IRUSR | stat.S_IXUSR)
    if os.access(tmp_path / "objects", os.W_OK):
        pytest.skip("this user (root) may write everywhere")
    try:
        with pytest.raises(StorageForbidden):
            await store.check()
        with pytest.raises(StorageForbidden):
            await store.put("new/b.png", b"x", "image/png")
        with pytest.raises(StorageForbidden):
            await store.get("a/b.png")
        with pytest.raises(ConfigurationError, match="Permission denied"):
            open_store(str(tmp_path / "objects" / "other"))
    finally:
        (tmp_path / "objects").chmod(stat.S_IRWXU)


async def test_deleting_leaves_no_empty_folders_but_the_root(tmp_path: Path) -> None:
    store = open_store(str(tmp_path / "objects"))
    await store.put("outputs/ab/job/1-a.png", b"x", "image/png")
    await store.put("outputs/cd/job/1-a.png", b"x", "image/png")
    await store.delete("outputs/ab/job/1-a.png")
    assert not (tmp_path / "objects" / "outputs" / "ab").exists()
    assert (tmp_path / "objects" / "outputs" / "cd").exists()
    await store.delete("outputs/cd/job/1-a.png")
    assert (tmp_path / "objects").exists()


async def test_a_put_into_a_folder_that_is_just_being_emptied_succeeds(tmp_path: Path) -> None:
    store = open_store(str(tmp_path))
    for n in range(30):
        await store.put("job/old.png", b"x", "image/png")
        new = f"job/{n}.png"
        await asyncio.gather(store.delete("job/old.png"), store.put(new, b"x", "image/png"))
        assert await store.get(new) == b"x"
        await store.delete(new)


async def test_a_folder_that_vanished_is_made_again(tmp_path: Path) -> None:
    store = open_store(str(tmp_path / "objects"))
    (tmp_path / "objects").rmdir()
    await store.check()


def test_a_file_in_the_folders_place_stops_the_start(tmp_path: Path) -> None:
    (tmp_path / "objects").write_bytes(b"")
    with pytest.raises(ConfigurationError, match="can't be created"):
        open_store(str(tmp_path / "objects"))


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("ftp://host/folder", "ftp:// is not a known kind"),
        ("http://host/bucket", "http:// is not a known kind"),
        ("s3://", "no plain bucket name"),
        ("s3://key:hush@bucket", "no plain bucket name"),
        ("s3://bucket?endpiont=http://127.0.0.1", "unknown option endpiont"),
        ("s3://bucket?path_style=perhaps", "path_style is true or false"),
    ],
)
def test_an_address_that_means_nothing_stops_the_start(url: str, words: str) -> None:
    with pytest.raises(ConfigurationError, match=words) as caught:
        open_store(url)
    assert "hush" not in repr(caught.value.as_dict())


async def test_a_missing_bucket_is_named(s3_endpoint: str) -> None:
    store = open_store(f"s3://nowhere?endpoint={s3_endpoint}", **CREDENTIALS)
    with pytest.raises(BucketMissing, match="Bucket nowhere does not exist") as caught:
        await store.check()
    assert not caught.value.retryable
    assert caught.value.hint


async def test_arguments_win_over_the_address(s3_endpoint: str) -> None:
    url = "s3://pictures/args?endpoint=http://127.0.0.1:1&path_style=true"
    await open_store(url, endpoint=s3_endpoint, **CREDENTIALS).check()


async def test_credentials_may_come_from_the_usual_variables(
    s3_endpoint: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "from-environment")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    monkeypatch.setenv("AWS_REGION", "us-east-1")
    store = open_store(f"s3://pictures/env?endpoint={s3_endpoint}")
    await store.check()
    assert "from-environment" in (await store.url("a.png") or "")


async def test_a_public_address_replaces_signatures(s3_endpoint: str, tmp_path: Path) -> None:
    base = "https://cdn.example/pictures/"
    in_bucket = open_store(f"s3://pictures?endpoint={s3_endpoint}", public_url=base, **CREDENTIALS)
    in_folder = open_store(str(tmp_path), public_url=base)
    for store in (in_bucket, in_folder):
        assert await store.url("a/b c.png") == "https://cdn.example/pictures/a/b%20c.png"


@pytest.fixture
async def failing_endpoint(request: pytest.FixtureRequest) -> AsyncIterator[str]:
    """An S3 service that always answers with the status that it is asked for."""

    async def answer(_: web.Request) -> web.Response:
        return web.Response(
            status=request.param,
            text="<Error><Code>Whatever</Code><Message>no</Message></Error>",
        )

    app = web.Application()
    app.router.add_route("*", "/{path:.*}", answer)
    async with TestServer(app, host="127.0.0.1") as server:
        yield str(server.make_url(""))


@pytest.mark.parametrize(
    ("failing_endpoint", "error"),
    [
        (401, StorageForbidden),
        (403, StorageForbidden),
        (400, StorageUnreachable),
        (500, StorageUnreachable),
    ],
    indirect=["failing_endpoint"],
)
async def test_what_the_service_says_becomes_a_sentence(
    failing_endpoint: str, error: type[StorageError]
) -> None:
    store = open_store(f"s3://pictures?endpoint={failing_endpoint}", **CREDENTIALS)
    with pytest.raises(error, match="Bucket pictures") as caught:
        await store.check()
    assert caught.value.hint
    assert "secret" not in repr(caught.value.as_dict())
    with pytest.raises(error):
        await store.get("a.png")


async def test_an_endpoint_where_nobody_listens_is_unreachable(
    unused_tcp_port: int,
) -> None:
    url = f"s3://pictures?endpoint=http://127.0.0.1:{unused_tcp_port}"
    started = time.monotonic()
    with pytest.raises(StorageUnreachable) as caught:
        await open_store(url, **CREDENTIALS).check()
    assert caught.value.retryable
    assert time.monotonic() - started < 15


@pytest.mark.parametrize(
    ("name", "media_type"),
    [
        ("a.png", "image/png"),
        ("A.JPEG", "image/jpeg"),
        ("a.b.webp", "image/webp"),
        ("folder.png/file", "application/octet-stream"),
        ("file", "application/octet-stream"),
        (".png", "image/png"),
        ("a.css", "text/css"),
        ("a.unheard", "application/octet-stream"),
    ],
)
def test_names_stand_for_types(name: str, media_type: str) -> None:
    assert media_type_of(name) == media_type


@pytest.mark.parametrize(
    ("media_type", "extension"),
    [
        ("image/jpeg", "jpg"),
        ("IMAGE/PNG", "png"),
        ("image/tiff", "tiff"),
        ("audio/ogg", "ogg"),
        ("text/plain; charset=utf-8", "txt"),
        ("text/css", "css"),
        ("application/x-unheard", "bin"),
    ],
)
def test_types_have_one_extension(media_type: str, extension: str) -> None:
    assert extension_of(media_type) == extension
