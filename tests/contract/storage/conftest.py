"""The stores that the contract is checked on, each as the settings of its provider give it."""

from collections.abc import AsyncIterator, Iterator, Mapping
from pathlib import Path

import boto3
import pytest
from cloudflare_server import ACCOUNT, TOKEN, CloudflareServer
from google_server import GoogleServer
from moto.server import ThreadedMotoServer

from atelier.app import open_configured_store
from atelier.settings import load_settings
from atelier.storage import Store, open_store
from atelier.storage import cloudflare_images as cloudflare_module

BUCKET = "pictures"


@pytest.fixture(scope="session")
def s3_endpoint() -> Iterator[str]:
    """An S3 service with one bucket."""
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    endpoint = f"http://{host}:{port}"
    client = boto3.client(
        "s3",
        endpoint_url=endpoint,
        aws_access_key_id="key",
        aws_secret_access_key="secret",
        region_name="us-east-1",
    )
    client.create_bucket(Bucket=BUCKET)
    client.close()
    yield endpoint
    server.stop()


@pytest.fixture(scope="session")
def google_key() -> GoogleServer:
    """Made once: a key takes a while."""
    return GoogleServer()


@pytest.fixture
async def google(google_key: GoogleServer) -> AsyncIterator[GoogleServer]:
    """A Google Cloud Storage with one empty bucket."""
    google_key.renew()
    await google_key.server.start_server()
    yield google_key
    await google_key.server.close()


@pytest.fixture
async def cloudflare(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[CloudflareServer]:
    """A Cloudflare Images without images."""
    monkeypatch.setattr(cloudflare_module, "FIRST_PAUSE_SECONDS", 0.01)
    monkeypatch.setattr(cloudflare_module, "LONGEST_PAUSE_SECONDS", 0.02)
    server = CloudflareServer()
    await server.server.start_server()
    yield server
    await server.server.close()


@pytest.fixture(
    params=["folder", "memory", "s3", "minio", "r2", "gcs", "cf_images", "cf_images delivered"]
)
def variables(request: pytest.FixtureRequest, tmp_path: Path) -> Mapping[str, str]:
    """The environment variables of each kind of store; none: it is in memory."""
    kind = request.param
    # A prefix of its own keeps tests apart in one bucket.
    place = f"{BUCKET}/{tmp_path.name}"
    match kind:
        case "memory":
            return {}
        case "folder":
            return {"STORAGE_PROVIDER": "local", "STORAGE_URL": str(tmp_path / "objects")}
        case "s3" | "minio":
            endpoint = request.getfixturevalue("s3_endpoint")
            return {
                "STORAGE_PROVIDER": kind,
                "STORAGE_URL": f"s3://{place}?endpoint={endpoint}&region=us-east-1",
                "STORAGE_ACCESS_KEY": "key",
                "STORAGE_SECRET_KEY": "secret",
            }
        case "r2":
            endpoint = request.getfixturevalue("s3_endpoint")
            return {
                "STORAGE_PROVIDER": "r2",
                "STORAGE_URL": f"s3://{place}?endpoint={endpoint}&region=auto",
                "R2_BUCKET_NAME": BUCKET,
                "R2_ACCESS_KEY": "key",
                "R2_SECRET_KEY": "secret",
            }
        case "gcs":
            path = tmp_path / "account.json"
            path.write_text(request.getfixturevalue("google").credentials())
            return {
                "STORAGE_PROVIDER": "gcs",
                "GCS_BUCKET_NAME": BUCKET,
                "GOOGLE_APPLICATION_CREDENTIALS": str(path),
            }
    cloudflare = request.getfixturevalue("cloudflare")
    given = {
        "STORAGE_PROVIDER": "cf_images",
        "STORAGE_URL": f"cf-images://{ACCOUNT}?endpoint={cloudflare.url}",
        "CF_IMAGES_ACCOUNT_ID": ACCOUNT,
        "CF_IMAGES_API_TOKEN": TOKEN,
        "ATELIER_DATA_DIR": str(tmp_path),
    }
    if kind == "cf_images delivered":
        given["CF_IMAGES_DELIVERY_DOMAIN"] = cloudflare.url
    return given


@pytest.fixture
async def store(
    variables: Mapping[str, str], monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Store]:
    """An empty store of each kind."""
    if not variables:
        yield open_store("memory://")
        return
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    async with open_configured_store(load_settings()) as store:
        yield store
