"""How pictures are wanted, as /v1 takes it: in a body, in an address, in a form."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal

import orjson
from fastapi import Query
from pydantic import BaseModel, ConfigDict, Field

from atelier.media.conversion import MAX_SIDE, Conversion, conversion_of

FormatName = Literal["png", "jpeg", "jpg", "webp", "avif"]
_FORMAT = "What pictures become; animations stay animated unless it is jpeg."
_QUALITY = "Of JPEG, WebP and AVIF, 1 to 100; PNG loses nothing."
_MAX_SIZE = "The longer side in pixels; what is larger is made smaller."

Format = Annotated[FormatName | None, Query(description=_FORMAT)]
Quality = Annotated[int | None, Query(ge=1, le=100, description=_QUALITY)]
MaxSize = Annotated[int | None, Query(ge=1, le=MAX_SIDE, description=_MAX_SIZE)]

FIELDS = ("format", "quality", "max_size")


class OutputOptions(BaseModel):
    """How pictures are to be kept; what is left out stays as the workflow made it."""

    model_config = ConfigDict(extra="forbid")

    format: Annotated[FormatName | None, Field(description=_FORMAT)] = None
    quality: Annotated[int | None, Field(ge=1, le=100, description=_QUALITY)] = None
    max_size: Annotated[int | None, Field(ge=1, le=MAX_SIDE, description=_MAX_SIZE)] = None

    def conversion(self) -> Conversion | None:
        return conversion_of(self.format, self.quality, self.max_size)


def conversion_of_texts(fields: Mapping[str, str]) -> Conversion | None:
    """From form fields. Raises ConversionInvalid."""
    return conversion_of(*(_value(name, fields.get(name)) for name in FIELDS))


def _value(name: str, text: str | None) -> Any:
    if not text:  # a form sends what was left empty, too
        return None
    if name == "format":
        return text
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError:
        return text
