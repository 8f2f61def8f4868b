"""Pictures in, normalised pictures and thumbnails out."""

import asyncio
import base64
import hashlib
import io
import random
import struct
import threading
import zlib
from collections.abc import Callable

import pytest
from PIL import Image, ImageCms, PngImagePlugin
from thumbhash import thumb_hash_to_average_rgba

from atelier.errors import MediaRejected
from atelier.media import (
    ImageTooLarge,
    NotAnImage,
    describe,
    inspect,
    normalise,
    thumbnail,
)
from atelier.media.threads import in_pool

Encode = Callable[..., bytes]


def reopened(data: bytes) -> Image.Image:
    opened = Image.open(io.BytesIO(data))
    opened.load()
    return opened


def near(found: object, wanted: tuple[int, ...], tolerance: int = 12) -> bool:
    assert isinstance(found, tuple)
    return all(abs(a - b) <= tolerance for a, b in zip(found, wanted, strict=True))


def png_header(width: int, height: int, *chunks: tuple[bytes, bytes]) -> bytes:
    """A PNG that announces a size and holds hardly anything."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        check = zlib.crc32(kind + body)
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", check)

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    rest = b"".join(chunk(kind, body) for kind, body in chunks)
    return b"\x89PNG\r\n\x1a\n" + header + rest + chunk(b"IEND", b"")


RED, GREEN, BLUE, GREY = (220, 20, 20), (20, 200, 20), (20, 20, 220), (200, 200, 200)

# What a viewer makes of the stored corners (top left, top right, bottom left, bottom right),
# by https://www.cipa.jp/std/documents/download_e.html?DC-008-Translation-2023-E 4.6.5
UPRIGHT_CORNERS = {
    1: (RED, GREEN, BLUE, GREY),
    2: (GREEN, RED, GREY, BLUE),
    3: (GREY, BLUE, GREEN, RED),
    4: (BLUE, GREY, RED, GREEN),
    5: (RED, BLUE, GREEN, GREY),
    6: (BLUE, RED, GREY, GREEN),
    7: (GREY, GREEN, BLUE, RED),
    8: (GREEN, GREY, RED, BLUE),
}


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP", "TIFF"])
async def test_orientation_is_applied_and_then_forgotten(
    scene: Image.Image, encode: Encode, format: str, orientation: int
) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    options = {"JPEG": {"quality": 95}, "WEBP": {"lossless": True}}.get(format, {})
    data = encode(scene, format, exif=exif, **options)
    size = (32, 48) if orientation >= 5 else (48, 32)

    info = await inspect(data)
    assert (info.width, info.height) == size
    done = await normalise(data)
    small = await thumbnail(data)
    for encoded in (done, small):
        assert (encoded.width, encoded.height) == size
        shown = reopened(encoded.data)
        assert shown.size == size
        assert shown.getexif().get(0x0112, 1) == 1
        x, y = size
        corners = [
            shown.convert("RGB").getpixel(at)
            for at in ((4, 4), (x - 5, 4), (4, y - 5), (x - 5, y - 5))
        ]
        for corner, wanted in zip(corners, UPRIGHT_CORNERS[orientation], strict=True):
            assert near(corner, wanted, 25), (orientation, corners)


@pytest.mark.parametrize(
    ("format", "options"),
    [
        ("PNG", {}),
        ("JPEG", {"quality": 80}),
        ("JPEG", {"quality": 80, "progressive": True}),
        ("WEBP", {"quality": 80}),
        ("WEBP", {"lossless": True}),
    ],
)
async def test_a_clean_picture_stays_as_it_is(
    scene: Image.Image, encode: Encode, format: str, options: dict[str, object]
) -> None:
    data = encode(scene, format, **options)
    done = await normalise(data)
    assert done.media_type == f"image/{format.lower()}"
    assert done.data == data
    assert done.sha256 == hashlib.sha256(data).hexdigest()
    assert await normalise(done.data) == done


def with_exif_and_profile(scene: Image.Image, encode: Encode, format: str) -> tuple[bytes, bytes]:
    exif = Image.Exif()
    exif[0x010F] = "SECRET MAKER"
    exif.get_ifd(0x8825)[2] = (51.0, 30.0, 0.0)
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    texts = PngImagePlugin.PngInfo()
    texts.add_text("parameters", "SECRET PROMPT")
    texts.add_itxt("XML:com.adobe.xmp", "<x:xmpmeta>SECRET</x:xmpmeta>")
    options: dict[str, object] = {"exif": exif, "icc_profile": profile}
    if format == "PNG":
        options["pnginfo"] = texts
    elif format == "JPEG":
        options |= {"comment": b"SECRET COMMENT", "xmp": b"SECRET XMP", "quality": 85}
    else:
        options["xmp"] = b"<x:xmpmeta>SECRET</x:xmpmeta>"
    return encode(scene, format, **options), profile


@pytest.mark.parametrize("format", ["PNG", "JPEG", "WEBP"])
async def test_metadata_goes_pixels_and_profile_stay(
    scene: Image.Image, encode: Encode, format: str
) -> None:
    data, profile = with_exif_and_profile(scene, encode, format)
    assert b"SECRET" in data
    done = await normalise(data)
    assert b"SECRET" not in done.data
    shown = reopened(done.data)
    assert not shown.getexif()
    assert shown.info["icc_profile"] == profile
    assert shown.tobytes() == reopened(data).tobytes(), "not encoded again"


@pytest.mark.parametrize("format", ["PNG", "JPEG", "WEBP"])
async def test_what_is_glued_behind_a_picture_goes(
    scene: Image.Image, encode: Encode, format: str
) -> None:
    """A file that is a picture and an archive or a script at once."""
    data = encode(scene, format)
    done = await normalise(data + b"PK\x03\x04<script>alert(1)</script>")
    assert done.data == data


async def test_metadata_of_a_turned_jpeg_goes_too(scene: Image.Image, encode: Encode) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    exif[0x010F] = "SECRET"
    data = encode(scene, "JPEG", exif=exif, comment=b"SECRET")
    assert b"SECRET" not in (await normalise(data)).data


@pytest.mark.parametrize(
    ("mode", "format", "becomes"),
    [
        ("CMYK", "JPEG", "RGB"),
        ("L", "JPEG", "L"),
        ("I;16", "PNG", "L"),
        ("I;16", "TIFF", "L"),
        ("F", "TIFF", "L"),
        ("CMYK", "TIFF", "RGB"),
        ("RGB", "BMP", "RGB"),
        ("RGB", "AVIF", "RGB"),
        ("RGBA", "PNG", "RGBA"),
        ("LA", "PNG", "LA"),
        ("P", "PNG", "P"),
        ("P", "GIF", "RGB"),
        ("1", "PNG", "1"),
        ("1", "TIFF", "L"),
    ],
)
async def test_every_kind_of_pixels_becomes_eight_bits_of_the_same_brightness(
    encode: Encode, mode: str, format: str, becomes: str
) -> None:
    grey = Image.new("L", (20, 10), 255)
    grey.paste(0, (0, 0, 10, 10))
    if mode == "I;16":
        wide = Image.new("I;16", grey.size, 65535)
        wide.paste(0, (0, 0, 10, 10))
        data = encode(wide, format)
    elif mode == "F":
        data = encode(grey.convert("F").point(lambda value: value * (1 / 255)), format)
    else:
        data = encode(grey.convert(mode), format)
    done = await normalise(data)
    assert done.media_type in ("image/png", "image/jpeg", "image/webp")
    shown = reopened(done.data)
    assert shown.mode == becomes
    plain = shown.convert("L")
    assert near((plain.getpixel((4, 5)), plain.getpixel((15, 5))), (0, 255), 3)
    small = reopened((await thumbnail(data)).data).convert("L")
    assert near((small.getpixel((4, 5)), small.getpixel((15, 5))), (0, 255), 12)


async def test_sixteen_bits_keep_their_middle(encode: Encode) -> None:
    done = await normalise(encode(Image.new("I;16", (8, 8), 32768), "PNG"))
    assert near((reopened(done.data).getpixel((3, 3)),), (128,), 1)


@pytest.mark.parametrize("format", ["PNG", "GIF"])
async def test_a_transparent_colour_of_a_palette_stays_transparent(
    encode: Encode, format: str
) -> None:
    image = Image.new("P", (10, 10), 1)
    image.putpalette([255, 0, 0, 0, 0, 255])
    image.paste(0, (0, 0, 5, 10))
    data = encode(image, format, transparency=0)
    for encoded in ((await normalise(data)).data, (await thumbnail(data)).data):
        shown = reopened(encoded).convert("RGBA")
        assert near((shown.getpixel((1, 5))[3], shown.getpixel((8, 5))[3]), (0, 255))


@pytest.mark.parametrize("format", ["GIF", "WEBP", "PNG", "TIFF"])
async def test_of_an_animation_the_first_frame_is_taken(
    scene: Image.Image, encode: Encode, format: str
) -> None:
    others = [Image.new("RGB", scene.size, (0, 0, 0)), Image.new("RGB", scene.size, (9, 9, 9))]
    data = encode(scene, format, save_all=True, append_images=others)
    assert (await inspect(data)).frames == 3
    done = await normalise(data)
    shown = reopened(done.data)
    assert (done.media_type, getattr(shown, "n_frames", 1)) == ("image/png", 1)
    assert near(shown.convert("RGB").getpixel((4, 4)), RED, 25)


async def test_an_animation_that_a_workflow_made_is_described_with_its_first_frame(
    scene: Image.Image, encode: Encode
) -> None:
    others = [Image.new("RGB", scene.size, (0, 0, 0))]
    data = encode(scene, "WEBP", save_all=True, append_images=others, duration=100)
    made = await describe(data, "clip.webp")
    assert (made.media_type, made.width, made.height) == ("image/webp", 48, 32)
    assert made.sha256 == hashlib.sha256(data).hexdigest()
    assert made.thumbnail is not None
    assert near(reopened(made.thumbnail.data).convert("RGB").getpixel((6, 6)), RED, 40)


async def test_a_multi_picture_jpeg_becomes_its_first_picture(
    scene: Image.Image, encode: Encode
) -> None:
    data = encode(scene, "MPO", save_all=True, append_images=[scene.rotate(180)])
    assert (await inspect(data)).frames == 2
    done = await normalise(data)
    assert done.media_type == "image/jpeg"
    shown = reopened(done.data)
    assert shown.format == "JPEG"
    assert near(shown.getpixel((4, 4)), RED, 25)
    assert len(done.data) < len(data) * 0.7


@pytest.mark.parametrize("format", ["PNG", "JPEG", "WEBP", "GIF", "TIFF", "BMP", "AVIF"])
async def test_a_truncated_picture_is_refused(
    scene: Image.Image, encode: Encode, format: str
) -> None:
    data = encode(scene.resize((200, 200)), format)
    for length in (len(data) // 2, len(data) - len(data) // 10, 20):
        with pytest.raises(NotAnImage):
            await normalise(data[:length])


async def test_a_truncated_output_is_still_described(scene: Image.Image, encode: Encode) -> None:
    data = encode(scene.resize((200, 200)), "PNG")[:300]
    made = await describe(data, "a.png")
    assert (made.media_type, made.size_bytes) == ("image/png", 300)
    assert (made.width, made.height, made.thumbnail) == (None, None, None)


@pytest.mark.parametrize(
    ("data", "hint"),
    [
        (b"", "PNG"),
        (b"hello", "PNG"),
        (b"<!DOCTYPE html><html><body>Sign in</body></html>", "web page"),
        (b"  \n<HTML>", "web page"),
        (b'<svg xmlns="http://www.w3.org/2000/svg"/>', "export it as PNG"),
        (b'<?xml version="1.0"?><!DOCTYPE svg><svg/>', "export it as PNG"),
        (b"%PDF-1.7", "PNG or JPEG"),
        (b"PK\x03\x04", "Unpack"),
        (b"\0\0\0\x18ftypheic\0\0\0\0mif1heic", "JPEG"),
        (b"%!PS-Adobe-3.0 EPSF-3.0", "PNG"),  # Pillow would hand it to Ghostscript
        (b"\x00\x00\x01\x00\x01\x00", "PNG"),
        (b"\x89PNG\r\n\x1a\n", "save it again"),
        (b"\xff\xd8\xff", "save it again"),
        (b"GIF89a", "save it again"),
    ],
)
async def test_what_is_no_picture_is_refused_with_a_hint(data: bytes, hint: str) -> None:
    for work in (inspect, normalise, thumbnail):
        with pytest.raises(NotAnImage) as caught:
            await work(data)
        assert hint in caught.value.hint
        assert not caught.value.retryable


async def test_a_bomb_is_refused_by_its_header_alone() -> None:
    """Were it decoded, the missing pixels would be complained about instead."""
    for size in ((10_000, 5_001), (50_000, 50_000), (2**31 - 1, 2**31 - 1)):
        for work in (inspect, normalise, thumbnail):
            with pytest.raises(ImageTooLarge) as caught:
                await work(png_header(*size))
            assert "megapixels" in caught.value.message


async def test_the_limit_is_the_callers(scene: Image.Image, encode: Encode) -> None:
    data = encode(scene)
    assert (await normalise(data, max_pixels=48 * 32)).width == 48
    with pytest.raises(ImageTooLarge) as caught:
        await normalise(data, max_pixels=48 * 32 - 1)
    assert caught.value.data == {"width": 48, "height": 32, "max_pixels": 48 * 32 - 1}


async def test_a_text_chunk_that_unpacks_to_much_does_no_harm() -> None:
    text = b"Comment\0\0" + zlib.compress(b"x" * 20_000_000, 9)
    with pytest.raises(NotAnImage):
        await normalise(png_header(1, 1, (b"zTXt", text)))


async def test_no_mutation_of_a_picture_raises_anything_else(
    scene: Image.Image, encode: Encode
) -> None:
    rng = random.Random(7)
    samples = [
        encode(scene, format) for format in ("PNG", "JPEG", "WEBP", "GIF", "TIFF", "BMP", "AVIF")
    ]
    for _ in range(400):
        data = bytearray(rng.choice(samples))
        for _ in range(rng.randint(1, 12)):
            data[rng.randrange(4, len(data))] = rng.randrange(256)
        try:
            done = await normalise(bytes(data), max_pixels=1_000_000)
        except MediaRejected:
            continue
        assert reopened(done.data).size == (done.width, done.height)


@pytest.mark.parametrize(
    ("size", "small"),
    [
        ((64, 64), (64, 64)),
        ((512, 512), (512, 512)),
        ((1024, 768), (512, 384)),
        ((768, 1024), (384, 512)),
        ((2000, 3), (512, 1)),
        ((1, 1), (1, 1)),
    ],
)
@pytest.mark.parametrize("format", ["PNG", "JPEG"])
async def test_thumbnails_have_at_most_512_pixels_a_side(
    encode: Encode, format: str, size: tuple[int, int], small: tuple[int, int]
) -> None:
    made = await thumbnail(encode(Image.new("RGB", size, (10, 200, 30)), format))
    shown = reopened(made.data)
    assert (shown.format, made.media_type) == ("WEBP", "image/webp")
    assert shown.size == (made.width, made.height) == small
    red, green, blue, alpha = thumb_hash_to_average_rgba(list(base64.b64decode(made.thumbhash)))
    assert near((round(red * 255), round(green * 255), round(blue * 255)), (10, 200, 30), 12)
    assert alpha == 1


async def test_thumbhashes_fit_their_column_and_show_transparency(encode: Encode) -> None:
    noise = Image.effect_noise((300, 300), 100)
    picture = Image.merge("RGBA", (noise, noise.rotate(90), noise.rotate(180), noise))
    for sample in (picture, Image.new("RGBA", (9, 500), (0, 0, 0, 0))):
        made = await thumbnail(encode(sample))
        assert len(made.thumbhash) <= 64
        assert thumb_hash_to_average_rgba(list(base64.b64decode(made.thumbhash)))[3] < 0.9


@pytest.mark.parametrize(
    ("data", "filename", "media_type"),
    [
        (b"\0\0\0\x20ftypisom\0\0\x02\0isomiso2avc1mp41", "clip.mp4", "video/mp4"),
        (b"\x1a\x45\xdf\xa3\x9f\x42\x86\x81\x01\x42\x82\x84webm", "a", "video/webm"),
        (b"RIFF\x24\0\0\0WAVEfmt ", "sound.flac", "audio/wav"),
        (b"fLaC\0\0\0\x22", "x", "audio/flac"),
        (b"OggS\0\x02", "x.ogg", "audio/ogg"),
        (b"ID3\x04\0\0", "x.mp3", "audio/mpeg"),
        (b"\xff\xfb\x90\x64", "x.mp3", "audio/mpeg"),
        (b"glTF\x02\0\0\0", "mesh.glb", "model/gltf-binary"),
        (b"v 0 0 0\n", "mesh.obj", "model/obj"),
        (b'{"a": 1}', "result.json", "application/json"),
        ("a cat, größer".encode(), "caption.txt", "text/plain"),
        (b"a cat", "caption", "text/plain"),
        (b"\x01\x02\x00\xff", "latent", "application/octet-stream"),
        (b"plain words", "picture.png", "text/plain"),  # the name doesn't make it a picture
        (b"", "nothing.png", "application/octet-stream"),
        (b"<html></html>", "page.txt", "text/html"),
    ],
)
async def test_what_is_no_picture_is_described_by_bytes_then_name(
    data: bytes, filename: str, media_type: str
) -> None:
    made = await describe(data, filename)
    assert made.media_type == media_type
    assert made.size_bytes == len(data)
    assert made.thumbnail is None


async def test_the_event_loop_goes_on_while_pictures_are_decoded(encode: Encode) -> None:
    threads: set[str] = set()
    held = threading.Event()

    def slow() -> None:
        threads.add(threading.current_thread().name)
        assert held.wait(5)

    waiting = [asyncio.create_task(in_pool(slow)) for _ in range(20)]
    await asyncio.sleep(0.05)
    assert 1 <= len(threads) <= 4, "bounded"
    held.set()
    await asyncio.gather(*waiting)
    assert all(name.startswith("pictures") for name in threads)
