"""Engines for the three databases, each connection set up for what the queue promises."""

from typing import Any

from sqlalchemy import URL, make_url
from sqlalchemy.exc import ArgumentError
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from atelier.database.errors import DatabaseRefused, translate_errors
from atelier.database.sqlite import open_sqlite

CONNECT_TIMEOUT_SECONDS = 5
_DRIVERS = {
    "sqlite": "sqlite+aiosqlite",
    "postgres": "postgresql+psycopg",
    "postgresql": "postgresql+psycopg",
    "mysql": "mysql+aiomysql",
    "mariadb": "mysql+aiomysql",
}


def parse_url(url: str) -> URL:
    """Return ``url`` with the asynchronous driver that is used for its database.

    Raises DatabaseRefused for an address that can't be one of ours.
    """
    try:
        parsed = make_url(url)
    except ArgumentError as error:
        raise DatabaseRefused(
            "DATABASE_URL is not an address.",
            hint="Use sqlite:///path/to/file, postgresql://user@host/name or mysql://user@host/name.",
        ) from error
    driver = _DRIVERS.get(parsed.drivername.partition("+")[0])
    if driver is None:
        raise DatabaseRefused(
            f"DATABASE_URL names an unknown kind of database: {parsed.drivername}.",
            hint="Known are sqlite, postgresql, mysql and mariadb.",
        )
    parsed = parsed.set(drivername=driver)
    if driver.startswith("sqlite") and parsed.database in (None, "", ":memory:"):
        raise DatabaseRefused(
            "DATABASE_URL names no file: a database in memory would lose accepted jobs.",
            hint="Use sqlite:///path/to/file.",
        )
    if driver.startswith("mysql") and "charset" not in parsed.query:
        parsed = parsed.update_query_dict({"charset": "utf8mb4"})
    return parsed


def open_engines(url: URL, *, writers: int, readers: int) -> tuple[AsyncEngine, AsyncEngine]:
    """Return the engine for transactions and the one for reading, which commits by itself."""
    name = url.get_backend_name()
    if name == "sqlite":
        return open_sqlite(url, writer=True, size=1), open_sqlite(url, writer=False, size=readers)
    arguments = _postgresql_arguments(url) if name == "postgresql" else _mysql_arguments()
    shared: dict[str, Any] = {
        "connect_args": arguments,
        "pool_timeout": 10,
        "pool_recycle": 1800,
        "pool_use_lifo": True,
        "max_overflow": 0,
        # Whoever takes a connection ends its transaction: one round trip less each time.
        "pool_reset_on_return": None,
    }
    writer = create_async_engine(url, pool_size=writers, isolation_level="READ COMMITTED", **shared)
    reader = create_async_engine(
        url,
        pool_size=readers,
        isolation_level="AUTOCOMMIT",
        skip_autocommit_rollback=True,
        **shared,
    )
    for engine in (writer, reader):
        translate_errors(engine, name)
    return writer, reader


def _postgresql_arguments(url: URL) -> dict[str, Any]:
    arguments: dict[str, Any] = {
        "connect_timeout": CONNECT_TIMEOUT_SECONDS,
        "application_name": "atelier",
        "tcp_user_timeout": 15_000,
        "options": "-c statement_timeout=30000 -c lock_timeout=5000"
        " -c idle_in_transaction_session_timeout=60000 -c timezone=UTC",
    }
    return {name: value for name, value in arguments.items() if name not in url.query}


def _mysql_arguments() -> dict[str, Any]:
    return {
        "connect_timeout": CONNECT_TIMEOUT_SECONDS,
        # A machine that loses its power says no good-bye: without an end, its open transaction
        # would keep its locks for hours. MySQL has none, and reads the last part as a comment.
        "init_command": "SET SESSION time_zone = '+00:00', innodb_lock_wait_timeout = 5,"
        " sql_mode = CONCAT(@@sql_mode, ',STRICT_ALL_TABLES')"
        " /*M!100300 , idle_transaction_timeout = 60 */",
    }
