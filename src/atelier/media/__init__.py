"""Pictures: fetched safely, checked, made small, and recorded."""

from atelier.media.asset import Asset, Kind, input_key, output_key, thumbnail_key
from atelier.media.cache import DownloadCache
from atelier.media.catalog import AssetPage, Catalog
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
    Description,
    ImageInfo,
    NormalisedImage,
    Thumbnail,
    describe,
    inspect,
    normalise,
    thumbnail,
)
from atelier.media.rejections import ImageTooLarge, NotAnImage
from atelier.media.sniff import sniff

__all__ = [
    "Asset",
    "AssetPage",
    "Catalog",
    "Description",
    "DownloadCache",
    "DownloadTooLarge",
    "Fetched",
    "Fetcher",
    "ImageInfo",
    "ImageTooLarge",
    "Kind",
    "NormalisedImage",
    "NotAnImage",
    "Thumbnail",
    "UrlRefused",
    "UrlStatus",
    "UrlUnavailable",
    "UrlUnreachable",
    "describe",
    "input_key",
    "inspect",
    "normalise",
    "output_key",
    "sniff",
    "thumbnail",
    "thumbnail_key",
]
