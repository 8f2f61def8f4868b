"""The stores that the contract is checked on."""

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import boto3
import pytest
from moto.server import ThreadedMotoServer

from atelier.storage import ObjectStore, open_store

BUCKET = "pictures"
CREDENTIALS = {
    "access_key_id": "key",
    "secret_access_key": "secret",
    "region": "us-east-1",
}


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


@pytest.fixture(params=["folder", "memory", "s3"])
async def store(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[ObjectStore]:
    """An empty store of each kind."""
    if request.param == "folder":
        yield open_store(str(tmp_path / "objects"))
    elif request.param == "memory":
        yield open_store("memory://")
    else:
        endpoint = request.getfixturevalue("s3_endpoint")
        # A prefix of its own keeps tests apart in one bucket.
        url = f"s3://{BUCKET}/{tmp_path.name}?endpoint={endpoint}"
        yield open_store(url, **CREDENTIALS)
