"""Where pictures are kept: several families of variables, one answer."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal
from urllib.parse import SplitResult, parse_qsl, urlsplit

from pydantic import AliasChoices, Field, SecretStr, field_validator
from pydantic_settings import BaseSettings

_SCHEMES = {
    "local": "",
    "s3": "s3",
    "minio": "s3",
    "r2": "s3",
    "gcs": "gs",
    "cf_images": "cf-images",
}
_NEEDED = {
    "r2": ("R2_BUCKET_NAME", "R2_ACCOUNT_ID", "R2_ACCESS_KEY", "R2_SECRET_KEY"),
    "gcs": ("GCS_BUCKET_NAME",),
    "cf_images": ("CF_IMAGES_ACCOUNT_ID", "CF_IMAGES_API_TOKEN"),
    "s3": ("STORAGE_URL",),
    "minio": ("STORAGE_URL",),
}
_IN_THE_URL = ("R2_BUCKET_NAME", "R2_ACCOUNT_ID", "GCS_BUCKET_NAME", "CF_IMAGES_ACCOUNT_ID")
# The first of each says enough that no provider need be guessed.
_MARKS = {"R2_BUCKET_NAME": "r2", "GCS_BUCKET_NAME": "gcs", "CF_IMAGES_ACCOUNT_ID": "cf_images"}
_SAME = (
    ("R2_ACCESS_KEY", "STORAGE_ACCESS_KEY"),
    ("R2_SECRET_KEY", "STORAGE_SECRET_KEY"),
)
_EXAMPLES = {
    "s3": "STORAGE_URL=s3://BUCKET?region=REGION",
    "minio": "STORAGE_URL=s3://BUCKET?endpoint=http://HOST:9000",
}


@dataclass(frozen=True, slots=True)
class StoragePlace:
    """``url`` as for ``open_store``, or ``cf-images://ACCOUNT``; ``options`` hold the secrets."""

    url: str
    options: Mapping[str, str] = field(default_factory=dict, repr=False)
    public_url: str | None = None


class StorageSettings(BaseSettings):
    """The variables that say where pictures are kept."""

    storage_provider: Literal["local", "s3", "minio", "r2", "gcs", "cf_images"] | None = Field(
        None,
        validation_alias="STORAGE_PROVIDER",
        description="local, s3, minio, r2, gcs or cf_images; default: what STORAGE_URL says.",
    )
    storage_url: str | None = Field(
        None,
        validation_alias=AliasChoices("STORAGE_URL", "STORAGE_BASE_PATH"),
        description="A folder, file:///FOLDER, s3://BUCKET/PREFIX?endpoint=URL&region=R or "
        "gs://BUCKET/PREFIX; default: the folder storage in the data folder.",
    )
    storage_access_key: SecretStr | None = Field(
        None,
        validation_alias=AliasChoices("STORAGE_ACCESS_KEY", "AWS_ACCESS_KEY_ID"),
        description="Access key of the object store.",
    )
    storage_secret_key: SecretStr | None = Field(
        None,
        validation_alias=AliasChoices("STORAGE_SECRET_KEY", "AWS_SECRET_ACCESS_KEY"),
        description="Secret key of the object store.",
    )
    storage_public_url: str | None = Field(
        None,
        pattern=r"^https?://",
        validation_alias="ATELIER_STORAGE_PUBLIC_URL",
        description="Address under which browsers reach the stored objects without a signature; "
        "default: signed addresses.",
    )
    storage_url_seconds: int = Field(
        3600,
        ge=1,
        le=604_800,  # the longest that S3 and Google sign for
        validation_alias="ATELIER_STORAGE_URL_SECONDS",
        description="How long signed addresses are valid.",
    )
    gcs_bucket_name: str | None = Field(
        None, validation_alias="GCS_BUCKET_NAME", description="Bucket at Google Cloud Storage."
    )
    gcs_bucket_region: str | None = Field(
        None,
        validation_alias="GCS_BUCKET_REGION",
        description="Understood, but not needed: Google finds a bucket by its name.",
    )
    google_credentials: Path | None = Field(
        None,
        validation_alias="GOOGLE_APPLICATION_CREDENTIALS",
        description="Credentials file for Google; default: what Google's own tools use here.",
    )
    r2_bucket_name: str | None = Field(
        None, validation_alias="R2_BUCKET_NAME", description="Bucket at Cloudflare R2."
    )
    r2_account_id: str | None = Field(
        None, validation_alias="R2_ACCOUNT_ID", description="Account of the R2 bucket."
    )
    r2_access_key: SecretStr | None = Field(
        None, validation_alias="R2_ACCESS_KEY", description="Access key id of R2."
    )
    r2_secret_key: SecretStr | None = Field(
        None, validation_alias="R2_SECRET_KEY", description="Secret access key of R2."
    )
    r2_public_domain: str | None = Field(
        None,
        validation_alias="R2_PUBLIC_DOMAIN",
        description="Domain that is connected to the R2 bucket; default: signed addresses.",
    )
    cf_images_account_id: str | None = Field(
        None, validation_alias="CF_IMAGES_ACCOUNT_ID", description="Account at Cloudflare Images."
    )
    cf_images_api_token: SecretStr | None = Field(
        None,
        validation_alias="CF_IMAGES_API_TOKEN",
        description="Token with the right to edit Cloudflare Images.",
    )
    cf_images_delivery_domain: str | None = Field(
        None,
        validation_alias="CF_IMAGES_DELIVERY_DOMAIN",
        description="Domain that delivers the images (imagedelivery.net or your own); "
        "default: they are served by us.",
    )
    cf_images_variant: str = Field(
        "public",
        pattern=r"^[A-Za-z0-9_,=.-]{1,99}$",
        validation_alias="ATELIER_CF_IMAGES_VARIANT",
        description="Variant that CF_IMAGES_DELIVERY_DOMAIN delivers.",
    )
    cf_images_companion_url: str | None = Field(
        None,
        validation_alias="ATELIER_CF_IMAGES_COMPANION_URL",
        description="With cf_images, the store of all that isn't an image, as in STORAGE_URL; "
        "default: the folder storage in the data folder.",
    )

    @field_validator("storage_provider", mode="before")
    @classmethod
    def lower(cls, value: object) -> object:
        return value.lower() if isinstance(value, str) else value

    @field_validator("storage_url", "cf_images_companion_url")
    @classmethod
    def need_an_address(cls, value: str | None) -> str | None:
        urlsplit(value or "")  # whose error says what is wrong
        return value

    @property
    def is_cloudflare_images(self) -> bool:
        return (self.storage_url or "").startswith("cf-images://") or (
            self.storage_provider == "cf_images"
        )

    def storage_place(self, folder: str) -> StoragePlace:
        """Where pictures are kept; ``folder`` where nothing else is said."""
        provider, url = self.storage_provider, self.storage_url
        public = self.storage_public_url
        if self.is_cloudflare_images:
            options = {
                "api_token": _plain(self.cf_images_api_token),
                "delivery_domain": self.cf_images_delivery_domain or "",
                "variant": self.cf_images_variant,
            }
            return StoragePlace(url or f"cf-images://{self.cf_images_account_id}", options)
        if provider == "gcs":
            url = url or f"gs://{self.gcs_bucket_name}"
        access, secret = self.storage_access_key, self.storage_secret_key
        if provider == "r2":
            endpoint = f"https://{self.r2_account_id}.r2.cloudflarestorage.com"
            url = url or f"s3://{self.r2_bucket_name}?endpoint={endpoint}&region=auto"
            access, secret = self.r2_access_key or access, self.r2_secret_key or secret
            prefix = _split(url).path.rstrip("/")
            if public is None and self.r2_public_domain:
                public = _address(self.r2_public_domain) + prefix
        return self._at(url or folder, access, secret, public)

    def companion_place_of(self, folder: str) -> StoragePlace:
        """Where Cloudflare Images' companion is; ``folder`` where nothing else is said."""
        url = self.cf_images_companion_url or folder
        return self._at(url, self.storage_access_key, self.storage_secret_key, None)

    def _at(
        self, url: str, access: SecretStr | None, secret: SecretStr | None, public: str | None
    ) -> StoragePlace:
        options: dict[str, str] = {}
        if url.startswith("s3://"):
            options = {"access_key_id": _plain(access), "secret_access_key": _plain(secret)}
        elif url.startswith("gs://"):
            options = {"credentials": str(self.google_credentials or "")}
        return StoragePlace(url, options, public)


def storage_problems(environment: Mapping[str, str]) -> Iterator[str]:
    """A sentence for each variable of the storage that is missing, or contradicts another."""
    url_name = "STORAGE_URL" if "STORAGE_URL" in environment else "STORAGE_BASE_PATH"
    url = environment.get(url_name)
    provider = environment.get("STORAGE_PROVIDER", "").lower()
    if not provider:
        yield from (
            f"{name} is set, but neither STORAGE_PROVIDER nor STORAGE_URL: "
            f"set STORAGE_PROVIDER={meant} to use it"
            for name, meant in _MARKS.items()
            if name in environment and url is None
        )
        return
    if provider not in _SCHEMES:
        return  # said where the variable itself is read
    if url is not None:
        yield from _against_the_url(provider, url_name, url, environment)
    yield from _missing(provider, url, environment)
    if provider == "r2":
        for first, second in _SAME:
            if environment.get(first, "") != environment.get(second, environment.get(first, "")):
                yield f"{first} and {second} contradict each other: keep one of them"
    if provider == "r2" and _differ(environment, "R2_PUBLIC_DOMAIN", "ATELIER_STORAGE_PUBLIC_URL"):
        yield (
            f"R2_PUBLIC_DOMAIN={environment['R2_PUBLIC_DOMAIN']} and ATELIER_STORAGE_PUBLIC_URL="
            f"{environment['ATELIER_STORAGE_PUBLIC_URL']} contradict each other: keep one of them"
        )


def _differ(environment: Mapping[str, str], domain: str, url: str) -> bool:
    if domain not in environment or url not in environment:
        return False
    return _split(_address(environment[domain])).netloc != _split(environment[url]).netloc


def _missing(provider: str, url: str | None, environment: Mapping[str, str]) -> Iterator[str]:
    missing = [
        name
        for name in _NEEDED.get(provider, ())
        if name not in environment
        and not (url is not None and name in (*_IN_THE_URL, "STORAGE_URL"))
        and name.replace("R2_", "STORAGE_", 1) not in environment
    ]
    if missing:
        example = f", such as {_EXAMPLES[provider]}" if provider in _EXAMPLES else ""
        yield f"STORAGE_PROVIDER={provider} needs {' and '.join(missing)}{example}"


def _against_the_url(
    provider: str, url_name: str, url: str, environment: Mapping[str, str]
) -> Iterator[str]:
    shown = f"{url_name}={url.partition('?')[0]}"
    parts = _split(url)
    scheme = parts.scheme if "://" in url and parts.scheme != "file" else ""
    if scheme != _SCHEMES[provider]:
        yield f"STORAGE_PROVIDER={provider} and {shown} contradict each other: keep one of them"
        return
    endpoint = dict(parse_qsl(parts.query)).get("endpoint", "")
    if provider == "minio" and not endpoint:
        yield f"STORAGE_PROVIDER=minio needs an endpoint, such as {_EXAMPLES['minio']}"
    if provider == "r2" and not endpoint:
        yield (
            f"STORAGE_PROVIDER=r2 and {shown} contradict each other: without an endpoint "
            "the address means Amazon's S3"
        )
        return
    meant = {
        "r2": {
            "R2_BUCKET_NAME": parts.netloc,
            # Buckets with a jurisdiction have a label more: ACCOUNT.eu.r2...
            "R2_ACCOUNT_ID": (_split(endpoint).hostname or "").partition(".")[0],
        },
        "gcs": {"GCS_BUCKET_NAME": parts.netloc},
        "cf_images": {"CF_IMAGES_ACCOUNT_ID": parts.netloc},
    }
    for name, value in meant.get(provider, {}).items():
        if environment.get(name, value).lower() != value.lower():
            yield (
                f"{name}={environment[name]} and {shown} contradict each other: keep one of them"
            )


def _split(url: str) -> SplitResult:
    try:
        return urlsplit(url)
    except ValueError:  # said where the variable itself is read
        return urlsplit("")


def _plain(secret: SecretStr | None) -> str:
    return secret.get_secret_value() if secret is not None else ""


def _address(domain: str) -> str:
    return (domain if "://" in domain else f"https://{domain}").rstrip("/")
