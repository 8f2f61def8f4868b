"""Why bytes are not accepted as a picture."""

from atelier.errors import MediaRejected

# What is asked for in its stead, by media type.
_HINTS = {
    "text/html": "The address answered a web page; use the address of the picture itself.",
    "image/svg+xml": "SVG is a drawing, not a picture: export it as PNG.",
    "image/heic": "HEIC can't be read here: convert it to JPEG or PNG.",
    "application/pdf": "Export the page as PNG or JPEG.",
    "application/zip": "Unpack the archive and send the picture.",
}


class NotAnImage(MediaRejected):
    """The bytes are no picture that can be read."""

    code = "NOT_AN_IMAGE"
    default_hint = "PNG, JPEG, WebP, GIF, AVIF, BMP and TIFF can be read."


class ImageTooLarge(MediaRejected):
    """The picture has more pixels than are decoded."""

    code = "IMAGE_TOO_LARGE"
    default_hint = "Scale the picture down and send it again."


def not_an_image(media_type: str | None, *, empty: bool = False) -> NotAnImage:
    """The error that says what came instead of a picture."""
    if empty:
        return NotAnImage("There is nothing in it: zero bytes.")
    if media_type is None:
        return NotAnImage("This is not a picture.")
    return NotAnImage(
        f"This is not a picture but {media_type}.",
        hint=_HINTS.get(media_type),
        media_type=media_type,
    )
