"""A database of the run's own on a given server, looked at and disturbed from outside."""

import contextlib
import sqlite3
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import URL, Engine, bindparam, create_engine, make_url, text
from sqlalchemy.exc import OperationalError
from sqlalchemy.pool import NullPool

_DRIVERS = {"postgresql": "postgresql+psycopg", "mysql": "mysql+pymysql", "sqlite": "sqlite"}
_PORTS = {"postgresql": 5432, "mysql": 3306}


class OwnDatabase:
    """``url`` names it directly; ``through`` as seen behind a proxy."""

    def __init__(self, url: URL) -> None:
        self.url = url
        self.kind = url.get_backend_name().replace("mariadb", "mysql")
        self._engine = _engine(url)

    @property
    def server(self) -> tuple[str, int] | None:
        """Host and port; None for a file."""
        if self.kind == "sqlite":
            return None
        return self.url.host or "127.0.0.1", self.url.port or _PORTS[self.kind]

    def through(self, port: int | None) -> str:
        url = self.url
        if port is not None and self.server is not None:
            url = url.set(host="127.0.0.1", port=port)
        return url.render_as_string(hide_password=False)

    def rows(self, statement: str, **values: Any) -> Sequence[Mapping[str, Any]]:
        """What a SELECT finds; a list given as a value is expanded."""
        query = text(statement)
        lists = [name for name, value in values.items() if isinstance(value, list)]
        query = query.bindparams(*(bindparam(name, expanding=True) for name in lists))
        with self._engine.connect() as connection:
            return connection.execute(query, values).mappings().all()

    def end_sessions(self) -> None:
        """Terminate every session but ours, as an operator or a restart does."""
        with self._engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            if self.kind == "postgresql":
                connection.execute(
                    text(
                        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                        " WHERE datname = current_database() AND pid <> pg_backend_pid()"
                    )
                )
                return
            found = connection.execute(
                text(
                    "SELECT id FROM information_schema.processlist"
                    " WHERE db = DATABASE() AND id <> CONNECTION_ID()"
                )
            ).scalars()
            for id in list(found):
                with contextlib.suppress(OperationalError):  # gone by itself meanwhile
                    connection.execute(text(f"KILL {id}"))

    def hold_lock(self, seconds: float) -> None:
        """SQLite: let nobody write for so long."""
        with closing(sqlite3.connect(str(self.url.database), timeout=30)) as connection:
            connection.isolation_level = None
            connection.execute("BEGIN IMMEDIATE")
            time.sleep(seconds)
            connection.execute("ROLLBACK")

    def close(self) -> None:
        self._engine.dispose()


@contextmanager
def own_database(server: str, folder: Path) -> Iterator[OwnDatabase]:
    """Make a database on ``server`` (sqlite: a file in ``folder``), and drop it afterwards."""
    url = make_url(server)
    name = f"atelier_chaos_{uuid.uuid4().hex[:12]}"
    if url.get_backend_name() == "sqlite":
        database = OwnDatabase(url.set(database=str(folder / f"{name}.db")))
        try:
            yield database
        finally:
            database.close()
        return
    _execute(url, f"CREATE DATABASE {name}")
    database = OwnDatabase(url.set(database=name))
    try:
        yield database
    finally:
        database.close()
        force = " WITH (FORCE)" if database.kind == "postgresql" else ""
        _execute(url, f"DROP DATABASE {name}{force}")


def _engine(url: URL) -> Engine:
    driver = _DRIVERS[url.get_backend_name().replace("mariadb", "mysql")]
    return create_engine(url.set(drivername=driver), poolclass=NullPool)


def _execute(url: URL, statement: str) -> None:
    if url.get_backend_name() == "postgresql" and not url.database:
        url = url.set(database="postgres")
    engine = _engine(url).execution_options(isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        connection.execute(text(statement))
    engine.dispose()
