"""Pictures in another format, quality or size."""

import io

import pytest
from PIL import Image, ImageCms

from atelier.media import (
    Conversion,
    ConversionInvalid,
    ImageTooLarge,
    NotAnImage,
    conversion_of,
    convert,
)

RED, BLUE = (220, 20, 20), (20, 20, 220)


def encoded(image, format="PNG", **options):
    out = io.BytesIO()
    image.save(out, format, **options)
    return out.getvalue()


def opened(data):
    image = Image.open(io.BytesIO(data))
    image.load()
    return image


@pytest.fixture
def photo():
    image = Image.effect_noise((400, 300), 40).convert("RGB")
    image.paste(RED, (0, 0, 100, 100))
    return image


def moving(format, frames=3, **options):
    first, *others = [Image.new("RGB", (60, 40), (60 * n, 40, 90)) for n in range(frames)]
    return encoded(first, format, save_all=True, append_images=others, duration=80, **options)


# -- what is asked for -----------------------------------------------------------------------------


def test_nothing_asked_for_is_no_conversion():
    assert conversion_of(None, None, None) is None


def test_jpg_is_jpeg_in_any_case():
    assert conversion_of("JPG", None, None) == Conversion("jpeg")


@pytest.mark.parametrize(
    ("asked", "wrong"),
    [
        (("bmp", None, None), ["format"]),
        ((7, None, None), ["format"]),
        (("png", 0, None), ["quality"]),
        (("png", 101, None), ["quality"]),
        (("png", True, None), ["quality"]),
        (("png", "high", None), ["quality"]),
        ((None, None, 0), ["max_size"]),
        ((None, None, 20_000), ["max_size"]),
        ((None, None, 10.5), ["max_size"]),
        (("gif", 0, 0), ["format", "quality", "max_size"]),
    ],
)
def test_all_that_is_wrong_is_named(asked, wrong):
    with pytest.raises(ConversionInvalid) as caught:
        conversion_of(*asked)
    assert [one["input"] for one in caught.value.data["problems"]] == wrong
    for name in wrong:
        assert name in caught.value.message


@pytest.mark.parametrize(
    ("conversion", "name"),
    [
        (Conversion("webp", 80, 1024), "webp-q80-1024"),
        (Conversion("png"), "png"),
        (Conversion(quality=80), "same-q80"),
        (Conversion(max_size=80), "same-80"),
    ],
)
def test_different_conversions_have_different_names(conversion, name):
    assert conversion.name == name


@pytest.mark.parametrize(
    ("conversion", "changes"),
    [
        (Conversion("png"), False),
        (Conversion("png", quality=50), False),  # PNG loses nothing
        (Conversion(max_size=400), False),
        (Conversion(max_size=399), True),
        (Conversion("webp"), True),
        (Conversion("jpeg", quality=50), True),
    ],
)
def test_what_is_as_wanted_already_is_left_alone(conversion, changes):
    assert conversion.changes("image/png", 400, 300) is changes


# -- what comes of it ------------------------------------------------------------------------------


@pytest.mark.parametrize("format", ["png", "jpeg", "webp", "avif"])
async def test_picture_becomes_each_format(photo, format):
    made = await convert(encoded(photo, "BMP"), Conversion(format))
    assert made.media_type == f"image/{format}"
    shown = opened(made.data)
    assert (shown.format, shown.size) == (format.upper(), (400, 300))
    pixel = shown.convert("RGB").getpixel((20, 20))
    assert all(abs(a - b) < 25 for a, b in zip(pixel, RED, strict=True))


async def test_untouched_picture_keeps_every_byte(photo):
    data = encoded(photo)
    assert (await convert(data, Conversion("png", max_size=4000))).data == data


@pytest.mark.parametrize("format", ["jpeg", "webp", "avif"])
async def test_lower_quality_is_smaller(photo, format):
    data = encoded(photo)
    low = await convert(data, Conversion(format, 20))
    high = await convert(data, Conversion(format, 95))
    assert len(low.data) < len(high.data) / 1.5


async def test_longer_side_is_limited_and_proportions_stay(photo):
    made = await convert(encoded(photo), Conversion(max_size=100))
    assert (made.media_type, opened(made.data).size) == ("image/png", (100, 75))
    tall = await convert(encoded(photo.rotate(90, expand=True), "JPEG"), Conversion(max_size=100))
    assert (tall.media_type, opened(tall.data).size) == ("image/jpeg", (75, 100))


async def test_format_that_is_not_written_becomes_png(photo):
    made = await convert(encoded(photo, "TIFF"), Conversion(max_size=100))
    assert made.media_type == "image/png"


async def test_transparency_stays_where_it_can_and_is_white_where_not():
    clear = Image.new("RGBA", (20, 20), (200, 0, 0, 0))
    webp = await convert(encoded(clear), Conversion("webp"))
    assert opened(webp.data).getpixel((5, 5))[3] == 0
    jpeg = await convert(encoded(clear), Conversion("jpeg"))
    assert min(opened(jpeg.data).getpixel((5, 5))) > 250


async def test_picture_with_a_transparent_colour_keeps_it():
    image = Image.new("P", (200, 20), 1)
    image.putpalette([255, 0, 0, 0, 255, 0])
    image.paste(0, (0, 0, 100, 20))
    made = await convert(encoded(image, transparency=0), Conversion("webp", max_size=100))
    shown = opened(made.data).convert("RGBA")
    assert (shown.getpixel((10, 5))[3], shown.getpixel((90, 5))[3]) == (0, 255)


async def test_turned_photo_is_set_upright():
    image = Image.new("RGB", (40, 20), RED)
    image.paste(BLUE, (20, 0, 40, 20))
    exif = Image.Exif()
    exif[0x0112] = 6  # the stored left is the shown top
    made = await convert(encoded(image, "JPEG", exif=exif, quality=95), Conversion("png"))
    shown = opened(made.data)
    assert shown.size == (20, 40)
    assert shown.getpixel((10, 5))[0] > 150
    assert shown.getpixel((10, 35))[2] > 150
    assert not shown.getexif()


async def test_colours_stay_and_metadata_goes(photo):
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    exif = Image.Exif()
    exif[0x010E] = "secret"
    data = encoded(photo, "JPEG", icc_profile=profile, exif=exif, comment="secret")
    for format in ("png", "jpeg", "webp", "avif"):
        made = await convert(data, Conversion(format, max_size=200))
        assert opened(made.data).info.get("icc_profile") == profile, format
        assert b"secret" not in made.data


@pytest.mark.parametrize("source", ["GIF", "WEBP", "PNG"])
@pytest.mark.parametrize("format", ["webp", "png", "avif"])
async def test_animation_stays_one_where_the_format_can_hold_it(source, format):
    made = await convert(moving(source), Conversion(format, max_size=30))
    shown = opened(made.data)
    assert (shown.n_frames, shown.size) == (3, (30, 20))
    shown.seek(2)
    shown.load()
    assert shown.convert("RGB").getpixel((5, 5))[0] == pytest.approx(120, abs=25)
    assert shown.info["duration"] == pytest.approx(80)


async def test_gif_stays_a_gif_when_only_its_size_matters():
    made = await convert(moving("GIF", loop=0), Conversion(max_size=30))
    shown = opened(made.data)
    assert (made.media_type, shown.n_frames, shown.size) == ("image/gif", 3, (30, 20))
    assert shown.info["loop"] == 0


async def test_animation_becomes_its_first_frame_as_jpeg():
    made = await convert(moving("GIF"), Conversion("jpeg"))
    assert opened(made.data).getpixel((5, 5))[0] < 20


async def test_animation_that_is_too_large_in_all_is_refused(monkeypatch):
    monkeypatch.setattr("atelier.media.conversion._MOST_PIXELS_OF_FRAMES", 3000)
    with pytest.raises(ImageTooLarge, match="3 frames"):
        await convert(moving("GIF"), Conversion("webp"))
    assert (await convert(moving("GIF"), Conversion("webp", max_size=30))).data


async def test_what_is_no_picture_is_refused(photo):
    with pytest.raises(NotAnImage):
        await convert(b"hello", Conversion("png"))
    with pytest.raises(NotAnImage):
        await convert(encoded(photo)[:500], Conversion("webp"))
