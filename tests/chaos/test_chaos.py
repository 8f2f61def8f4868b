"""A few kills, cuts and freezes on each database: nothing lost, nothing twice, nothing stale."""

import os
from pathlib import Path

import pytest
from bench.chaos.__main__ import options_of, told
from bench.chaos.databases import own_database
from bench.chaos.run import run
from sqlalchemy.exc import OperationalError

SERVERS = {
    "sqlite": "sqlite://",
    "postgresql": os.environ.get(
        "ATELIER_TEST_POSTGRESQL_URL", "postgresql://postgres@127.0.0.1:5432/postgres"
    ),
    "mariadb": os.environ.get("ATELIER_TEST_MARIADB_URL", "mysql://root@127.0.0.1:3306/"),
}


@pytest.mark.parametrize("kind", SERVERS)
async def test_nothing_is_lost_or_done_twice(kind: str, tmp_path: Path) -> None:
    try:
        with own_database(SERVERS[kind], tmp_path):
            pass
    except OperationalError as error:
        reason = f"{kind} isn't reachable: {error}"
        if os.environ.get("REQUIRE_SERVICES") == "1":
            pytest.fail(reason)
        pytest.skip(reason)
    options = options_of(quick=True, database=SERVERS[kind], seed=len(kind))
    outcome = await run(options, tmp_path)
    verdict, said = outcome.verdict, told(outcome, options)
    assert len(outcome.ledger.accepted) == options.jobs, said
    assert outcome.striker.sigkills > 0, said
    # Times aren't judged here: a busy machine takes its own.
    assert not verdict.lost, said
    assert verdict.surplus == 0, said
    assert not verdict.published_twice, said
    assert not verdict.stale, said
    assert not verdict.missing_files, said
    assert not verdict.posted_twice, said
    assert not verdict.neighbours, said
    assert not verdict.failed, said
    assert not verdict.not_reattached, said
