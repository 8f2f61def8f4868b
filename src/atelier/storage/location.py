"""From STORAGE_URL to one of obstore's stores: one vendor's options in one place."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import parse_qsl, unquote, urlsplit
from urllib.request import url2pathname

from obstore.exceptions import BaseError
from obstore.store import LocalStore, MemoryStore, S3Store

from atelier.errors import ConfigurationError

if TYPE_CHECKING:
    from obstore.store import ClientConfig, RetryConfig, S3Config
    from obstore.store import ObjectStore as VendorStore

_S3_OPTIONS = (
    "endpoint",
    "region",
    "access_key_id",
    "secret_access_key",
    "session_token",
    "path_style",
)
_TRUE = ("1", "true", "yes", "on")
_FALSE = ("0", "false", "no", "off")


@dataclass(frozen=True, slots=True)
class Location:
    """An opened vendor store, its name for people (no secret), its public base address."""

    store: "VendorStore"
    name: str
    public_url: str | None


def open_vendor_store(url: str, public_url: str | None, options: Mapping[str, str]) -> Location:
    """The vendor's store for ``url``; nothing is contacted. Raises ConfigurationError."""
    parts = urlsplit(url)
    given = {**dict(parse_qsl(parts.query)), **{k: v for k, v in options.items() if v}}
    public = public_url or given.pop("public_url", None)
    if "://" not in url or len(parts.scheme) == 1:  # one letter is a Windows drive
        return Location(_local(Path(url)), f"The folder {url}", public)
    if parts.scheme == "file":
        path = Path(url2pathname(unquote(parts.path)))
        return Location(_local(path), f"The folder {path}", public)
    if parts.scheme == "memory":
        return Location(MemoryStore(), "The memory store", public)
    if parts.scheme == "s3":
        return Location(_s3(parts.netloc, parts.path, given), f"Bucket {parts.netloc}", public)
    raise ConfigurationError(
        f"Storage can't be opened: {parts.scheme}:// is not a known kind of storage.",
        hint="STORAGE_URL is a folder, memory:// or s3://bucket/prefix?endpoint=...",
    )


def _local(path: Path) -> LocalStore:
    folder = path.expanduser()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        return LocalStore(folder.resolve(), automatic_cleanup=True)
    except OSError as error:
        raise ConfigurationError(
            f"The storage folder {folder} can't be created: {error.strerror}.",
            hint="Choose another folder in STORAGE_URL, or give this user the right to write.",
        ) from error


def _s3(bucket: str, prefix: str, given: Mapping[str, str]) -> S3Store:
    unknown = sorted(set(given) - set(_S3_OPTIONS))
    if unknown or not bucket or "@" in bucket:
        problem = f"unknown option {', '.join(unknown)}" if unknown else "no plain bucket name"
        raise ConfigurationError(
            f"Storage can't be opened: {problem}.",
            hint=f"s3://bucket/prefix?option=value with {', '.join(_S3_OPTIONS)}.",
        )
    config: S3Config = {}
    for option in ("endpoint", "region", "access_key_id", "secret_access_key", "session_token"):
        if option in given:
            config[option] = given[option]
    if "path_style" in given:
        config["virtual_hosted_style_request"] = not _truth("path_style", given["path_style"])
    client: ClientConfig = {"connect_timeout": "5s", "timeout": "60s"}
    if given.get("endpoint", "").startswith("http://"):
        client["allow_http"] = True
    # Jobs are retried by their worker: here only a hiccup is bridged.
    retry: RetryConfig = {"max_retries": 3, "retry_timeout": timedelta(seconds=15)}
    try:
        return S3Store(
            bucket,
            prefix=prefix.strip("/") or None,
            config=config,
            client_options=client,
            retry_config=retry,
        )
    except (BaseError, ValueError) as error:
        raise ConfigurationError(f"Storage can't be opened: {error}") from error


def _truth(option: str, value: str) -> bool:
    if value.lower() not in _TRUE + _FALSE:
        raise ConfigurationError(f"Storage can't be opened: {option} is true or false.")
    return value.lower() in _TRUE
