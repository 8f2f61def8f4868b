import asyncio

import pytest
from sqlalchemy import inspect, text

import atelier.jobs.tables
import atelier.media.tables
import atelier.pool.tables
import atelier.webhooks.tables
import atelier.workflows.tables  # noqa: F401
from atelier.database import Database, SchemaTooNew, SchemaTooOld, metadata


@pytest.fixture
async def empty(new_database_url):
    async with await Database.open(new_database_url()) as database:
        yield database


def describe(connection):
    """What the database itself says of its tables."""
    inspector = inspect(connection)
    tables = {}
    for name in set(inspector.get_table_names()) - {"alembic_version"}:
        columns = [
            (c["name"], str(c["type"].compile(connection.dialect)), c["nullable"], c["default"])
            for c in inspector.get_columns(name)
        ]
        indexes = sorted(
            (
                index["name"],
                index["column_names"],
                bool(index["unique"]),
                # The condition of a partial index.
                sorted(
                    (key, str(value)) for key, value in index.get("dialect_options", {}).items()
                ),
            )
            for index in inspector.get_indexes(name)
        )
        uniques = sorted(
            (unique["name"], unique["column_names"])
            for unique in inspector.get_unique_constraints(name)
        )
        key = inspector.get_pk_constraint(name)["constrained_columns"]
        tables[name] = {"columns": columns, "indexes": indexes, "uniques": uniques, "key": key}
    return tables


async def test_migrations_and_declared_tables_agree(database, empty):
    async with database.read() as connection:
        migrated = await connection.run_sync(describe)
    async with empty.transaction() as connection:
        if database.dialect == "mysql":
            # The migration sets the collation; the declarations leave it to the database.
            collation = await connection.scalar(text("SELECT @@collation_database"))
            [wanted] = {
                row.TABLE_COLLATION
                for row in await connection.execute(
                    text(
                        "SELECT TABLE_COLLATION FROM information_schema.TABLES"
                        " WHERE TABLE_SCHEMA = :name AND TABLE_NAME <> 'alembic_version'"
                    ),
                    {"name": database.url.database},
                )
            }
            assert wanted != collation
            await connection.execute(text(f"ALTER DATABASE COLLATE {wanted}"))
        await connection.run_sync(metadata.create_all)
        declared = await connection.run_sync(describe)
    assert migrated == declared
    assert set(migrated) >= {"jobs", "job_details", "requirements", "assets", "webhooks"}


async def test_several_processes_may_migrate_at_once(new_database_url):
    url = new_database_url()

    async def migrate():
        async with await Database.open(url) as database:
            await database.migrate()
            await database.check()

    await asyncio.gather(*(migrate() for _ in range(3)))


async def test_migrating_again_changes_nothing(database):
    await database.migrate()
    await database.check()


async def test_database_without_tables_is_too_old(empty):
    with pytest.raises(SchemaTooOld, match="no tables"):
        await empty.check()


async def test_database_of_a_newer_version_is_left_alone(empty):
    await empty.migrate()
    async with empty.transaction() as connection:
        await connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    with pytest.raises(SchemaTooNew, match="9999"):
        await empty.check()
    with pytest.raises(SchemaTooNew, match="9999"):
        await empty.migrate()


async def test_migration_that_was_interrupted_is_completed(database, empty):
    # Only MySQL commits each table by itself; elsewhere this is a database that was half
    # restored.
    await empty.migrate()
    async with empty.transaction() as connection:
        await connection.execute(text("DELETE FROM alembic_version"))
        await connection.execute(text("DROP TABLE assets"))
        on = " ON jobs" if empty.dialect == "mysql" else ""
        await connection.execute(text(f"DROP INDEX jobs_user_idx{on}"))
    await empty.migrate()
    await empty.check()
    async with empty.read() as completed, database.read() as migrated:
        assert await completed.run_sync(describe) == await migrated.run_sync(describe)


async def test_version_names_the_product(database, database_kind):
    names = {"sqlite": "SQLite 3.", "postgresql": "PostgreSQL 1", "mariadb": "MariaDB 1"}
    assert (await database.version()).startswith(names[database_kind])


async def test_waiting_jobs_are_found_by_an_index(bench):
    await bench.do("insert_many", [bench.new() for _ in range(50)])
    plan = {"sqlite": "EXPLAIN QUERY PLAN ", "postgresql": "EXPLAIN ", "mysql": "EXPLAIN "}
    query = (
        "SELECT id FROM jobs WHERE status = 'queued' AND run_after_ms <= 1"
        " ORDER BY precedence, seq, id LIMIT 10"
    )
    async with bench.database.transaction() as conn:
        if bench.database.dialect == "postgresql":
            # A small table is cheaper to read whole; what counts is that the index fits.
            await conn.execute(text("SET LOCAL enable_seqscan = off"))
            await conn.execute(text("SET LOCAL enable_sort = off"))
        rows = await conn.execute(text(plan[bench.database.dialect] + query))
        explained = "\n".join(str(tuple(row)) for row in rows)
    assert "jobs_queued_idx" in explained
    for sorting in ("TEMP B-TREE", "Sort", "filesort"):
        assert sorting not in explained
