"""What can be wrong with a database, and the one place that reads vendors' error codes.

AtelierError
├── Unavailable
│   └── DatabaseUnavailable        unreachable, lost, restarting, too many connections
│       ├── DatabaseBusy           deadlock, lock wait; the same transaction may work at once
│       └── DatabaseFull           no space; works again once there is some
└── ConfigurationError
    ├── DatabaseRefused            wrong user, password or database name; unusable address
    ├── DatabaseNotWritable        file or folder can't be opened or written
    ├── DatabaseDamaged            the file isn't a database, or is corrupt
    ├── DatabaseTooOld             a server or library version that lacks what is used
    ├── SchemaTooOld               migrations are missing
    └── SchemaTooNew               a newer version of this program has migrated it
"""

from typing import Any

from sqlalchemy import event
from sqlalchemy.engine import ExceptionContext
from sqlalchemy.ext.asyncio import AsyncEngine

from atelier.errors import AtelierError, ConfigurationError, Unavailable


class DatabaseUnavailable(Unavailable):
    code = "DATABASE_UNAVAILABLE"
    default_hint = "Check that the database is running and reachable, then try again."


class DatabaseBusy(DatabaseUnavailable):
    code = "DATABASE_BUSY"
    default_hint = "Try again."


class DatabaseFull(DatabaseUnavailable):
    code = "DATABASE_FULL"
    default_hint = "Free space where the database keeps its files."


class DatabaseRefused(ConfigurationError):
    code = "DATABASE_REFUSED"
    default_hint = "Check user, password and database name in DATABASE_URL."


class DatabaseNotWritable(ConfigurationError):
    code = "DATABASE_NOT_WRITABLE"
    default_hint = "Give the user who runs this the right to write the file and its folder."


class DatabaseDamaged(ConfigurationError):
    code = "DATABASE_DAMAGED"
    default_hint = "Restore the file from a backup, or name another one in DATABASE_URL."


class DatabaseTooOld(ConfigurationError):
    code = "DATABASE_TOO_OLD"


class SchemaTooOld(ConfigurationError):
    code = "SCHEMA_TOO_OLD"
    default_hint = "Run `atelier migrate`."


class SchemaTooNew(ConfigurationError):
    code = "SCHEMA_TOO_NEW"
    default_hint = "Run the version that has migrated this database, or a newer one."


# Primary codes of https://www.sqlite.org/rescode.html: the low byte of the extended ones.
_SQLITE: dict[int, type[AtelierError]] = {
    3: DatabaseNotWritable,  # PERM
    5: DatabaseBusy,  # BUSY
    6: DatabaseBusy,  # LOCKED
    8: DatabaseNotWritable,  # READONLY
    10: DatabaseUnavailable,  # IOERR
    11: DatabaseDamaged,  # CORRUPT
    13: DatabaseFull,  # FULL
    14: DatabaseNotWritable,  # CANTOPEN
    26: DatabaseDamaged,  # NOTADB
}
# SQLSTATE, longest prefix first.
_POSTGRESQL: dict[str, type[AtelierError]] = {
    "08": DatabaseUnavailable,  # connection exceptions
    "25006": DatabaseUnavailable,  # read only: the old primary after a failover
    "28": DatabaseRefused,  # authorisation
    "3D000": DatabaseRefused,  # no such database
    "40001": DatabaseBusy,  # serialisation failure
    "40P01": DatabaseBusy,  # deadlock
    "53100": DatabaseFull,
    "53": DatabaseUnavailable,  # out of memory, too many connections
    "55P03": DatabaseBusy,  # lock_timeout
    "57014": DatabaseUnavailable,  # statement_timeout
    "57P": DatabaseUnavailable,  # shutdown, crash, starting up
    "58": DatabaseUnavailable,  # I/O errors outside PostgreSQL
}
_MYSQL: dict[int, type[AtelierError]] = {
    1020: DatabaseBusy,  # record changed since last read
    1021: DatabaseFull,
    1040: DatabaseUnavailable,  # too many connections
    1044: DatabaseRefused,
    1045: DatabaseRefused,
    1049: DatabaseRefused,  # no such database
    1053: DatabaseUnavailable,  # shutting down
    1114: DatabaseFull,  # table full, which is also how a full disk shows
    1205: DatabaseBusy,  # lock wait time-out
    1213: DatabaseBusy,  # deadlock
    1290: DatabaseUnavailable,  # read only: the old primary after a failover
    1317: DatabaseUnavailable,  # query interrupted, as a shutdown does
    1836: DatabaseUnavailable,  # read only
    1927: DatabaseUnavailable,  # connection killed
    2002: DatabaseUnavailable,
    2003: DatabaseUnavailable,
    2006: DatabaseUnavailable,
    2013: DatabaseUnavailable,
    2055: DatabaseUnavailable,
}


def translate_errors(engine: AsyncEngine, dialect: str) -> None:
    """Make ``engine`` raise our errors wherever its driver complains about the database's health.

    Other complaints (a broken constraint, a mistaken statement) stay SQLAlchemy's.
    """

    @event.listens_for(engine.sync_engine, "handle_error")
    def on_error(context: ExceptionContext) -> AtelierError | None:
        error = context.original_exception
        # uvloop raises RuntimeError when aiomysql writes to a transport that has closed.
        lost = context.is_disconnect or isinstance(error, OSError | EOFError | RuntimeError)
        if not isinstance(error, Exception):
            return None  # a cancellation, which passes through
        context.is_disconnect = lost
        return translate(error, dialect, disconnected=lost)


def translate(error: Exception, dialect: str, *, disconnected: bool) -> AtelierError | None:
    """Return our error for a driver's, or None where it isn't about the database's health.

    ``disconnected``: SQLAlchemy has recognised the loss of the connection.
    """
    kind = _kind(error, dialect)
    if kind is None and disconnected:
        kind = DatabaseUnavailable
    if kind is None:
        return None
    reason = str(error.args[-1] if error.args else error).strip().splitlines()
    return kind(f"The database says: {reason[0] if reason else type(error).__name__}.")


def _kind(error: Any, dialect: str) -> type[AtelierError] | None:
    if dialect == "sqlite":
        return _SQLITE.get(getattr(error, "sqlite_errorcode", 0) & 0xFF)
    if dialect == "mysql":
        number = error.args[0] if error.args else None
        return _MYSQL.get(number) if isinstance(number, int) else None
    state = getattr(error, "sqlstate", None)
    if state is None:
        # libpq gives no SQLSTATE when it can't connect.
        is_operational = type(error).__name__ in ("OperationalError", "ConnectionTimeout")
        return DatabaseUnavailable if is_operational else None
    for length in (5, 3, 2):
        if kind := _POSTGRESQL.get(state[:length]):
            return kind
    return None
