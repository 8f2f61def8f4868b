"""From STORAGE_URL to one of obstore's stores: one vendor's options in one place."""

import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, unquote, urlsplit
from urllib.request import url2pathname

from obstore.exceptions import BaseError
from obstore.store import GCSStore, LocalStore, MemoryStore, S3Store

from atelier.errors import ConfigurationError

if TYPE_CHECKING:
    from obstore.store import ClientConfig, GCSConfig, RetryConfig, S3Config
    from obstore.store import ObjectStore as VendorStore

_S3_OPTIONS = (
    "endpoint",
    "region",
    "access_key_id",
    "secret_access_key",
    "session_token",
    "path_style",
)
_GOOGLE_OPTIONS = ("credentials",)
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
    if parts.scheme == "gs":
        return Location(_google(parts.netloc, parts.path, given), f"Bucket {parts.netloc}", public)
    raise ConfigurationError(
        f"Storage can't be opened: {parts.scheme}:// is not a known kind of storage.",
        hint="STORAGE_URL is a folder, memory://, s3://bucket/prefix?endpoint=... or "
        "gs://bucket/prefix.",
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
    _check_form("s3", bucket, given, _S3_OPTIONS)
    config: S3Config = {}
    for option in ("endpoint", "region", "access_key_id", "secret_access_key", "session_token"):
        if option in given:
            config[option] = given[option]
    if "path_style" in given:
        config["virtual_hosted_style_request"] = not _truth("path_style", given["path_style"])
    client = _client(allow_http=given.get("endpoint", "").startswith("http://"))
    try:
        return S3Store(
            bucket,
            prefix=prefix.strip("/") or None,
            config=config,
            client_options=client,
            retry_config=_retry(),
        )
    except (BaseError, ValueError) as error:
        raise ConfigurationError(f"Storage can't be opened: {error}") from error


def _google(bucket: str, prefix: str, given: Mapping[str, str]) -> GCSStore:
    _check_form("gs", bucket, given, _GOOGLE_OPTIONS)
    config: GCSConfig = {}
    account: Mapping[str, Any] = {}
    if "credentials" in given:
        account = _credentials(Path(given["credentials"]).expanduser())
        # Read as a service account's file it also says where the service is.
        if account.get("type") == "authorized_user":
            config["application_credentials"] = given["credentials"]
        else:
            config["service_account"] = given["credentials"]
    client = _client(allow_http=str(account.get("gcs_base_url", "")).startswith("http://"))
    try:
        return GCSStore(
            bucket,
            prefix=prefix.strip("/") or None,
            config=config,
            client_options=client,
            retry_config=_retry(),
        )
    except (BaseError, ValueError) as error:
        reason = str(error).splitlines()[0]
        raise ConfigurationError(
            f"Storage can't be opened: {reason}",
            hint="GOOGLE_APPLICATION_CREDENTIALS names the file of a service account's key.",
        ) from error


def _credentials(path: Path) -> Mapping[str, Any]:
    hint = "GOOGLE_APPLICATION_CREDENTIALS names the JSON file of a service account's key."
    try:
        read = json.loads(path.read_bytes())
    except OSError as error:
        raise ConfigurationError(
            f"The Google credentials {path} can't be read: {error.strerror}.", hint=hint
        ) from error
    except ValueError:
        read = None
    if not isinstance(read, dict):
        raise ConfigurationError(f"The Google credentials {path} are no JSON object.", hint=hint)
    return read


def _check_form(
    scheme: str, bucket: str, given: Mapping[str, str], options: Collection[str]
) -> None:
    unknown = sorted(set(given) - set(options))
    if unknown or not bucket or "@" in bucket:
        problem = f"unknown option {', '.join(unknown)}" if unknown else "no plain bucket name"
        raise ConfigurationError(
            f"Storage can't be opened: {problem}.",
            hint=f"{scheme}://bucket/prefix?option=value with {', '.join(options)}.",
        )


def _client(*, allow_http: bool) -> "ClientConfig":
    client: ClientConfig = {"connect_timeout": "5s", "timeout": "60s"}
    if allow_http:
        client["allow_http"] = True
    return client


def _retry() -> "RetryConfig":
    # Jobs are retried by their worker: here only a hiccup is bridged.
    return {"max_retries": 3, "retry_timeout": timedelta(seconds=15)}


def _truth(option: str, value: str) -> bool:
    if value.lower() not in _TRUE + _FALSE:
        raise ConfigurationError(f"Storage can't be opened: {option} is true or false.")
    return value.lower() in _TRUE
