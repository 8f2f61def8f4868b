"""A database of the run's own, looked into from outside and harmed on purpose."""

import asyncio
import contextlib
import json
import uuid
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import URL, Engine, NullPool, create_engine, make_url, text
from sqlalchemy.exc import SQLAlchemyError

from bench.fault_proxy import FaultProxy

_DRIVERS = {
    "sqlite": "sqlite",
    "postgres": "postgresql+psycopg",
    "postgresql": "postgresql+psycopg",
    "mysql": "mysql+pymysql",
    "mariadb": "mysql+pymysql",
}
_PORTS = {"postgresql": 5432, "mysql": 3306}


class ChaosDatabase:
    """``url`` is what the processes are given: through ``proxy``, where there is a server."""

    def __init__(self, direct: URL, proxy: FaultProxy | None) -> None:
        self.kind = direct.get_backend_name()
        self.proxy = proxy
        through = direct if proxy is None else direct.set(host="127.0.0.1", port=proxy.port)
        self.url = through.set(drivername=self.kind).render_as_string(hide_password=False)
        self._name = direct.database or ""
        self._engine = _engine(direct)

    async def rows(self, statement: str, **values: Any) -> Sequence[Any]:
        """Read, as nobody harms us: not through the proxy. Trouble of the moment is tried again."""
        for attempt in range(20):
            try:
                return await asyncio.to_thread(self._rows, statement, values)
            except SQLAlchemyError:
                if attempt == 19:
                    raise
                await asyncio.sleep(0.5)
        raise AssertionError

    def _rows(self, statement: str, values: Mapping[str, Any]) -> Sequence[Any]:
        with self._engine.connect() as conn:
            return conn.execute(text(statement), values).all()

    async def break_connections(self) -> int:
        """End all sessions of others in this database, whatever they do; how many."""
        return await asyncio.to_thread(self._break_connections)

    def _break_connections(self) -> int:
        with self._engine.connect() as conn:
            if self.kind == "postgresql":
                ended = conn.execute(
                    text(
                        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                        " WHERE datname = :name AND pid <> pg_backend_pid()"
                    ),
                    {"name": self._name},
                ).all()
                return len(ended)
            count = 0
            for row in conn.execute(
                text(
                    "SELECT id FROM information_schema.processlist"
                    " WHERE db = :name AND id <> CONNECTION_ID()"
                ),
                {"name": self._name},
            ).all():
                with contextlib.suppress(SQLAlchemyError):  # it has just gone by itself
                    conn.execute(text(f"KILL CONNECTION {int(row[0])}"))
                    count += 1
            return count


def of_json(value: Any) -> Any:
    """A column of JSON, as whichever driver gives it."""
    return json.loads(value) if isinstance(value, str | bytes) else value


@asynccontextmanager
async def own_database(server: str, folder: Path) -> AsyncIterator[ChaosDatabase]:
    """An empty database at ``server`` (a file in ``folder`` for SQLite), dropped afterwards."""
    url = make_url(server)
    url = url.set(drivername=_DRIVERS[url.get_backend_name()])
    if url.get_backend_name() == "sqlite":
        yield ChaosDatabase(url.set(database=str(folder / "chaos.db")), None)
        return
    name = f"atelier_chaos_{uuid.uuid4().hex[:12]}"
    server_engine = _engine(url)

    def execute(statement: str) -> None:
        with server_engine.connect() as conn:
            conn.execute(text(statement))

    await asyncio.to_thread(execute, f"CREATE DATABASE {name}")
    try:
        kind = url.get_backend_name()
        async with FaultProxy(url.host or "127.0.0.1", url.port or _PORTS[kind]) as proxy:
            yield ChaosDatabase(url.set(database=name), proxy)
    finally:
        force = " WITH (FORCE)" if url.get_backend_name() == "postgresql" else ""
        await asyncio.to_thread(execute, f"DROP DATABASE {name}{force}")


def _engine(url: URL) -> Engine:
    more: dict[str, Any] = {}
    if url.get_backend_name() == "sqlite":
        more["connect_args"] = {"timeout": 20}
    return create_engine(url, poolclass=NullPool, isolation_level="AUTOCOMMIT", **more)
