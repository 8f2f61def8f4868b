"""A few kills on each database: nothing is lost, published twice, or written by who is stale.

The long run of the same is ``python -m bench.chaos --kills 200 --jobs 10000 --database URL``.
"""

import os
import subprocess
import sys
from pathlib import Path

import psycopg
import pymysql
import pytest
from sqlalchemy import make_url

ROOT = Path(__file__).parents[2]
SERVERS = {
    "postgresql": (
        "ATELIER_TEST_POSTGRESQL_URL",
        "postgresql://postgres@127.0.0.1:5432/postgres",
    ),
    "mariadb": ("ATELIER_TEST_MARIADB_URL", "mysql://root@127.0.0.1:3306/"),
}


def server_url(kind):
    if kind == "sqlite":
        return "sqlite://"
    variable, default = SERVERS[kind]
    url = make_url(os.environ.get(variable, default))
    try:
        if kind == "postgresql":
            address = url.set(drivername=kind).render_as_string(hide_password=False)
            psycopg.connect(address, connect_timeout=3).close()
        else:
            where = {"host": url.host or "127.0.0.1", "port": url.port or 3306}
            who = {"user": url.username, "password": url.password or ""}
            pymysql.connect(**where, **who, connect_timeout=3).close()
    except (psycopg.OperationalError, pymysql.OperationalError) as error:
        if os.environ.get("REQUIRE_SERVICES") == "1":
            pytest.fail(f"{kind} isn't reachable: {error}")
        pytest.skip(f"{kind} isn't reachable: {error}")
    return url.render_as_string(hide_password=False)


@pytest.mark.fleet
@pytest.mark.parametrize("kind", ["sqlite", *SERVERS])
def test_kills_under_load_break_no_promise(kind, tmp_path):
    command = [sys.executable, "-m", "bench.chaos", "--quick", "--database", server_url(kind)]
    run = subprocess.run(
        [*command, "--keep", tmp_path / "kept"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=180,
        check=False,
    )
    assert run.returncode == 0, run.stdout[-3000:] + run.stderr[-2000:]
    assert "NOT MET" not in run.stdout
    # That it ran and looked at something, and did not just find nothing.
    assert "jobs accepted" in run.stdout
    assert run.stdout.count("kill_") == 4
