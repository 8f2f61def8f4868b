"""Pictures and other files: fetched safely, checked, converted, made small, and recorded."""

from atelier.media.asset import Asset, Kind, input_key, output_key, thumbnail_key
from atelier.media.cache import DownloadCache
from atelier.media.catalog import AssetPage, Catalog
from atelier.media.conversion import Conversion, ConversionInvalid, conversion_of, convert
from atelier.media.description import Description, describe, describe_output
from atelier.media.fetch import (
    DownloadTooLarge,
    Fetched,
    Fetcher,
    UrlRefused,
    UrlStatus,
    UrlUnavailable,
    UrlUnreachable,
)
from atelier.media.image import (
    ImageInfo,
    NormalisedImage,
    Thumbnail,
    inspect,
    normalise,
    thumbnail,
)
from atelier.media.kinds import MediaKind, kind_of
from atelier.media.rejections import ImageTooLarge, NotAnImage
from atelier.media.sniff import sniff

__all__ = [
    "Asset",
    "AssetPage",
    "Catalog",
    "Conversion",
    "ConversionInvalid",
    "Description",
    "DownloadCache",
    "DownloadTooLarge",
    "Fetched",
    "Fetcher",
    "ImageInfo",
    "ImageTooLarge",
    "Kind",
    "MediaKind",
    "NormalisedImage",
    "NotAnImage",
    "Thumbnail",
    "UrlRefused",
    "UrlStatus",
    "UrlUnavailable",
    "UrlUnreachable",
    "conversion_of",
    "convert",
    "describe",
    "describe_output",
    "input_key",
    "inspect",
    "kind_of",
    "normalise",
    "output_key",
    "sniff",
    "thumbnail",
    "thumbnail_key",
]
