"""Where pictures are kept: each provider's variables, and what is wrong with them in sentences."""

from pathlib import Path

import pytest
from pydantic import AliasChoices

from atelier.errors import ConfigurationError
from atelier.settings import Settings, load_settings

R2 = {
    "STORAGE_PROVIDER": "r2",
    "R2_BUCKET_NAME": "pictures",
    "R2_ACCOUNT_ID": "account",
    "R2_ACCESS_KEY": "key",
    "R2_SECRET_KEY": "hush",
}
R2_URL = "s3://pictures?endpoint=https://account.r2.cloudflarestorage.com&region=auto"
CLOUDFLARE = {
    "STORAGE_PROVIDER": "cf_images",
    "CF_IMAGES_ACCOUNT_ID": "account",
    "CF_IMAGES_API_TOKEN": "hush",
}


@pytest.fixture
def load(monkeypatch):
    for field in Settings.model_fields.values():
        alias = field.validation_alias
        for name in alias.choices if isinstance(alias, AliasChoices) else [alias]:
            monkeypatch.delenv(name, raising=False)

    def load(**environment):
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        return load_settings()

    return load


FOLDER = str(Path("data/storage").absolute())


@pytest.mark.parametrize(
    ("environment", "url", "options"),
    [
        ({}, FOLDER, {}),
        ({"STORAGE_PROVIDER": "local"}, FOLDER, {}),
        ({"STORAGE_PROVIDER": "LOCAL", "STORAGE_BASE_PATH": "/var/pictures"}, "/var/pictures", {}),
        ({"STORAGE_URL": "memory://"}, "memory://", {}),
        (
            {"STORAGE_URL": "s3://b/p", "STORAGE_ACCESS_KEY": "k", "STORAGE_SECRET_KEY": "hush"},
            "s3://b/p",
            {"access_key_id": "k", "secret_access_key": "hush"},
        ),
        (
            {"STORAGE_PROVIDER": "minio", "STORAGE_URL": "s3://b?endpoint=http://minio:9000"},
            "s3://b?endpoint=http://minio:9000",
            {"access_key_id": "", "secret_access_key": ""},
        ),
        (R2, R2_URL, {"access_key_id": "key", "secret_access_key": "hush"}),
        # the address of a bucket with a jurisdiction
        (
            {**R2, "STORAGE_URL": "s3://pictures/p?endpoint=https://account.eu.r2.example.com"},
            "s3://pictures/p?endpoint=https://account.eu.r2.example.com",
            {"access_key_id": "key", "secret_access_key": "hush"},
        ),
        (
            {"STORAGE_PROVIDER": "gcs", "GCS_BUCKET_NAME": "b", "GCS_BUCKET_REGION": "eu",
             "GOOGLE_APPLICATION_CREDENTIALS": "/etc/account.json"},
            "gs://b",
            {"credentials": "/etc/account.json"},
        ),
        ({"STORAGE_URL": "gs://b/p"}, "gs://b/p", {"credentials": ""}),
        (
            {**CLOUDFLARE, "CF_IMAGES_DELIVERY_DOMAIN": "imagedelivery.net"},
            "cf-images://account",
            {"api_token": "hush", "delivery_domain": "imagedelivery.net", "variant": "public"},
        ),
    ],
)  # fmt: skip
def test_variables_say_where_the_store_is(load, environment, url, options):
    place = load(**environment).storage
    assert (place.url, dict(place.options)) == (url, options)
    assert "hush" not in repr(place)


@pytest.mark.parametrize(
    ("environment", "public_url"),
    [
        ({**R2, "R2_PUBLIC_DOMAIN": "pub.r2.dev"}, "https://pub.r2.dev"),
        ({**R2, "R2_PUBLIC_DOMAIN": "https://pub.r2.dev/"}, "https://pub.r2.dev"),
        (
            {**R2, "STORAGE_URL": R2_URL.replace("?", "/folder?"), "R2_PUBLIC_DOMAIN": "a.com"},
            "https://a.com/folder",
        ),
        (
            {"STORAGE_URL": "s3://b", "ATELIER_STORAGE_PUBLIC_URL": "https://cdn.example.com/b"},
            "https://cdn.example.com/b",
        ),
        (R2, None),
        # that of another provider
        ({"STORAGE_URL": "s3://b", "R2_PUBLIC_DOMAIN": "pub.r2.dev"}, None),
    ],
)
def test_public_domain_is_where_browsers_look(load, environment, public_url):
    assert load(**environment).storage.public_url == public_url


def test_companion_of_cloudflare_may_be_elsewhere(load):
    assert load(**CLOUDFLARE).companion_place.url == FOLDER
    settings = load(ATELIER_CF_IMAGES_COMPANION_URL="s3://videos", STORAGE_ACCESS_KEY="k")
    assert settings.companion_place.url == "s3://videos"
    assert settings.companion_place.options["access_key_id"] == "k"


@pytest.mark.parametrize(
    ("environment", "names"),
    [
        (
            {"STORAGE_PROVIDER": "r2"},
            ["R2_BUCKET_NAME", "R2_ACCOUNT_ID", "R2_ACCESS_KEY", "R2_SECRET_KEY"],
        ),
        ({"STORAGE_PROVIDER": "gcs"}, ["GCS_BUCKET_NAME"]),
        ({"STORAGE_PROVIDER": "cf_images"}, ["CF_IMAGES_ACCOUNT_ID", "CF_IMAGES_API_TOKEN"]),
        ({"STORAGE_PROVIDER": "s3"}, ["STORAGE_URL=s3://"]),
        ({"STORAGE_PROVIDER": "minio", "STORAGE_URL": "s3://b"}, ["endpoint=http://HOST:9000"]),
        ({"STORAGE_PROVIDER": "azure"}, ["STORAGE_PROVIDER"]),
        ({"R2_BUCKET_NAME": "b"}, ["R2_BUCKET_NAME", "STORAGE_PROVIDER=r2"]),
        ({"GCS_BUCKET_NAME": "b"}, ["GCS_BUCKET_NAME", "STORAGE_PROVIDER=gcs"]),
        ({"CF_IMAGES_ACCOUNT_ID": "a"}, ["CF_IMAGES_ACCOUNT_ID", "STORAGE_PROVIDER=cf_images"]),
        ({"ATELIER_STORAGE_URL_SECONDS": "604801"}, ["ATELIER_STORAGE_URL_SECONDS"]),
        ({"ATELIER_STORAGE_PUBLIC_URL": "cdn.example.com"}, ["ATELIER_STORAGE_PUBLIC_URL"]),
        ({"ATELIER_SPOOL_MB": "0"}, ["ATELIER_SPOOL_MB"]),
        ({"ATELIER_CF_IMAGES_VARIANT": "a/b"}, ["ATELIER_CF_IMAGES_VARIANT"]),
    ],
)
def test_what_is_missing_or_means_nothing_is_named_at_once(load, environment, names):
    with pytest.raises(ConfigurationError) as caught:
        load(**environment)
    for name in names:
        assert name in caught.value.message


@pytest.mark.parametrize(
    ("environment", "names"),
    [
        ({**R2, "STORAGE_URL": "/var/pictures"}, ["STORAGE_PROVIDER=r2", "STORAGE_URL"]),
        ({**R2, "STORAGE_BASE_PATH": "./storage"}, ["STORAGE_PROVIDER=r2", "STORAGE_BASE_PATH"]),
        ({**R2, "STORAGE_URL": "s3://pictures"}, ["STORAGE_PROVIDER=r2", "STORAGE_URL"]),
        ({**R2, "STORAGE_URL": R2_URL.replace("pictures", "b")}, ["R2_BUCKET_NAME", "STORAGE_URL"]),
        ({**R2, "STORAGE_URL": R2_URL.replace("account", "x")}, ["R2_ACCOUNT_ID", "STORAGE_URL"]),
        ({**R2, "STORAGE_ACCESS_KEY": "x"}, ["R2_ACCESS_KEY", "STORAGE_ACCESS_KEY"]),
        ({**R2, "STORAGE_SECRET_KEY": "hush2"}, ["R2_SECRET_KEY", "STORAGE_SECRET_KEY"]),
        (
            {**R2, "R2_PUBLIC_DOMAIN": "a.com", "ATELIER_STORAGE_PUBLIC_URL": "https://b.com"},
            ["R2_PUBLIC_DOMAIN", "ATELIER_STORAGE_PUBLIC_URL"],
        ),
        (
            {"STORAGE_PROVIDER": "gcs", "GCS_BUCKET_NAME": "a", "STORAGE_URL": "gs://b"},
            ["GCS_BUCKET_NAME", "STORAGE_URL"],
        ),
        ({"STORAGE_PROVIDER": "local", "STORAGE_URL": "s3://b"}, ["STORAGE_PROVIDER=local"]),
        ({**CLOUDFLARE, "STORAGE_URL": "cf-images://x"}, ["CF_IMAGES_ACCOUNT_ID", "STORAGE_URL"]),
    ],
)
def test_two_that_say_different_things_are_both_named(load, environment, names):
    with pytest.raises(ConfigurationError, match="contradict") as caught:
        load(**environment)
    for name in names:
        assert name in caught.value.message
    assert "hush" not in caught.value.message


@pytest.mark.parametrize(
    "environment",
    [
        {**R2, "STORAGE_URL": "s3://["},
        {"STORAGE_URL": "s3://["},
        {"STORAGE_PROVIDER": "gcs", "STORAGE_URL": "gs://["},
    ],
)
def test_address_that_is_none_is_said_to_be(load, environment):
    with pytest.raises(ConfigurationError):
        load(**environment)


def test_secrets_of_the_storage_are_collected_for_the_log(load):
    assert "hush" in load(**R2).secrets
    settings = load(STORAGE_URL=f"{R2_URL}&secret_access_key=hush3&session_token=hush4")
    assert {"hush3", "hush4"} <= settings.secrets
