"""The same callers, with the service on several processes and nothing changed for them.

Two APIs behind one address, two workers and two engines share a PostgreSQL, a Redis and an S3.
"""

import asyncio
import os
import shutil
import subprocess
import sys
import uuid

import boto3
import psycopg
import pytest
from balancer import Balancer
from moto.server import ThreadedMotoServer
from node_callers import PICTURES, bring_home
from services import Part, answers, environment, free_port

from atelier.errors import AtelierError
from atelier.events.redis import redis_version

POSTGRESQL = os.environ.get(
    "ATELIER_TEST_POSTGRESQL_URL", "postgresql://postgres@127.0.0.1:5432/postgres"
)
REDIS = os.environ.get("ATELIER_TEST_REDIS_URL", "redis://127.0.0.1:6379")
BUCKET = "pictures"


def _missing(reason):
    if os.environ.get("REQUIRE_SERVICES") == "1":
        pytest.fail(reason)
    pytest.skip(reason)


@pytest.fixture(scope="module")
def postgresql():
    name = f"atelier_test_{uuid.uuid4().hex[:12]}"
    try:
        with psycopg.connect(POSTGRESQL, autocommit=True) as connection:
            connection.execute(f"CREATE DATABASE {name}")
    except psycopg.OperationalError as error:
        _missing(f"postgresql is not reachable: {error}")
    yield f"{POSTGRESQL.rpartition('/')[0]}/{name}"
    with psycopg.connect(POSTGRESQL, autocommit=True) as connection:
        connection.execute(f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture(scope="module")
def redis():
    try:
        asyncio.run(redis_version(REDIS))
    except AtelierError as error:
        _missing(f"redis is not reachable: {error.message}")
    return f"{REDIS}/11"


@pytest.fixture(scope="module")
def bucket():
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    place = {"endpoint_url": f"http://{host}:{port}", "region_name": "us-east-1"}
    keys = {"aws_access_key_id": "key", "aws_secret_access_key": "secret"}
    client = boto3.client("s3", **place, **keys)
    client.create_bucket(Bucket=BUCKET)
    client.close()
    yield {
        "STORAGE_PROVIDER": "s3",
        "STORAGE_URL": f"s3://{BUCKET}/all?endpoint={place['endpoint_url']}&region=us-east-1",
        "STORAGE_ACCESS_KEY": "key",
        "STORAGE_SECRET_KEY": "secret",
    }
    server.stop()


@pytest.fixture(scope="module")
def cluster(tmp_path_factory, postgresql, redis, bucket):
    """The address of the whole."""
    folder = tmp_path_factory.mktemp("cluster")
    engines, apis = [free_port(), free_port()], [free_port(), free_port()]
    shared = {
        "DATABASE_URL": postgresql,
        "REDIS_URL": redis,
        "ATELIER_FETCH_ALLOW": "127.0.0.1",
        **bucket,
    }
    balancer = Balancer(apis)
    started = []

    def start(name, *arguments, **variables):
        (folder / name).mkdir()
        part = Part(folder / name, "atelier", *arguments, **shared, **variables)
        started.append(part)

    try:
        subprocess.run(
            [sys.executable, "-m", "atelier", "migrate"],
            cwd=folder, env=environment(**shared), check=True, capture_output=True, timeout=60,
        )  # fmt: skip
        for number, port in enumerate(engines):
            start(f"engine{number}", "engine", "--port", str(port))
        base = f"http://127.0.0.1:{balancer.port}"
        for number, port in enumerate(apis):
            start(f"api{number}", "api", PORT=str(port), ATELIER_PUBLIC_URL=base)
        for number in range(2):
            urls = ",".join(f"http://127.0.0.1:{port}" for port in engines)
            start(f"worker{number}", "worker", COMFYUI_URLS=urls)
        for part, port in zip(started[2:4], apis, strict=True):
            part.until(lambda port=port: answers(f"http://127.0.0.1:{port}/ready"))
        yield base
    finally:
        for part in reversed(started):
            part.end()
        balancer.close()
        shutil.rmtree(folder, ignore_errors=True)


@pytest.mark.fleet
@pytest.mark.parametrize("caller", PICTURES)
def test_node_caller_brings_its_pictures_home(node, caller, cluster, tmp_path, small_photo):
    bring_home(node, caller, cluster, tmp_path, small_photo)
