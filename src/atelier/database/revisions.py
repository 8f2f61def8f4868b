"""Running the migrations inside this package, and knowing which have been run."""

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import text
from sqlalchemy.engine import Connection
from sqlalchemy.ext.asyncio import AsyncConnection

from atelier.database.errors import DatabaseBusy, SchemaTooNew, SchemaTooOld

LOCK_NAME, LOCK_NUMBER = "atelier migrate", 0x61746C72
LOCK_TIMEOUT_SECONDS = 60


def configuration() -> Config:
    config = Config()
    config.set_main_option("script_location", "atelier:migrations")
    return config


async def upgrade(connection: AsyncConnection) -> None:
    """Run what hasn't been run, while no other process can (SQLite: it has the write lock)."""
    if connection.dialect.name == "postgresql":
        await connection.execute(text(f"SET LOCAL lock_timeout = '{LOCK_TIMEOUT_SECONDS}s'"))
        await connection.execute(text("SET LOCAL statement_timeout = 0"))
        await connection.execute(
            text("SELECT pg_advisory_xact_lock(:number)"), {"number": LOCK_NUMBER}
        )
    elif connection.dialect.name == "mysql":
        locked = await connection.scalar(
            text("SELECT GET_LOCK(:name, :seconds)"),
            {"name": LOCK_NAME, "seconds": LOCK_TIMEOUT_SECONDS},
        )
        if locked != 1:
            raise DatabaseBusy("Another process has been migrating the database for a minute.")
    try:
        await connection.run_sync(_upgrade)
    finally:
        if connection.dialect.name == "mysql" and not connection.invalidated:
            await connection.execute(text("SELECT RELEASE_LOCK(:name)"), {"name": LOCK_NAME})


def _upgrade(connection: Connection) -> None:
    _raise_if_unknown(connection)
    config = configuration()
    config.attributes["connection"] = connection
    command.upgrade(config, "head")


async def check_revision(connection: AsyncConnection) -> None:
    """Raise SchemaTooOld or SchemaTooNew unless the newest migration is the last one run."""
    await connection.run_sync(_check)


def _check(connection: Connection) -> None:
    revision = _raise_if_unknown(connection)
    if revision != ScriptDirectory.from_config(configuration()).get_current_head():
        raise SchemaTooOld(
            "The database has no tables yet."
            if revision is None
            else f"The database stands at migration {revision}; newer ones are missing."
        )


def _raise_if_unknown(connection: Connection) -> str | None:
    revision = MigrationContext.configure(connection).get_current_revision()
    scripts = ScriptDirectory.from_config(configuration()).walk_revisions()
    known = {script.revision for script in scripts}
    if revision is not None and revision not in known:
        raise SchemaTooNew(
            f"The database stands at migration {revision}, which this version doesn't know."
        )
    return revision
