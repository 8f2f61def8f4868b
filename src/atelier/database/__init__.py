"""The database: SQLite when embedded, PostgreSQL, MySQL or MariaDB when outgrown."""

from atelier.database.database import Database, Dialect
from atelier.database.errors import (
    DatabaseBusy,
    DatabaseDamaged,
    DatabaseFull,
    DatabaseNotWritable,
    DatabaseRefused,
    DatabaseTooOld,
    DatabaseUnavailable,
    SchemaTooNew,
    SchemaTooOld,
)
from atelier.database.grouping import Grouped
from atelier.database.schema import Id, Json, metadata, now_ms, padded, value_of

__all__ = [
    "Database",
    "DatabaseBusy",
    "DatabaseDamaged",
    "DatabaseFull",
    "DatabaseNotWritable",
    "DatabaseRefused",
    "DatabaseTooOld",
    "DatabaseUnavailable",
    "Dialect",
    "Grouped",
    "Id",
    "Json",
    "SchemaTooNew",
    "SchemaTooOld",
    "metadata",
    "now_ms",
    "padded",
    "value_of",
]
