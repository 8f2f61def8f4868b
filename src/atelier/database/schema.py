"""What every room's ``tables.py`` declares its tables with."""

from collections.abc import Sequence
from typing import Any, TypeVar

import orjson
from sqlalchemy import BigInteger, MetaData, String, Text
from sqlalchemy.dialects.mysql import LONGTEXT
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.functions import FunctionElement
from sqlalchemy.types import TypeDecorator, TypeEngine

T = TypeVar("T")

metadata = MetaData(
    naming_convention={
        "pk": "%(table_name)s_pkey",
        "uq": "%(table_name)s_%(column_0_name)s_key",
        "ix": "%(table_name)s_%(column_0_name)s_idx",
    }
)

# Ids are compared byte by byte; a database's own locale would make that slower.
Id: TypeEngine[str] = String(36).with_variant(String(36, collation="C"), "postgresql")


class Json(TypeDecorator[Any]):
    """A value that orjson can write, kept as text.

    Not the databases' own JSON types: PostgreSQL's refuses the character U+0000, MySQL's
    reorders keys, and nothing here is queried by what is inside.
    """

    impl = Text
    cache_ok = True

    def load_dialect_impl(self, dialect: Any) -> TypeEngine[Any]:
        # MySQL's TEXT ends at 64 KiB; a graph with an inlined mask is longer.
        return LONGTEXT() if dialect.name == "mysql" else self.impl_instance

    def process_bind_param(self, value: Any, dialect: Any) -> str | None:
        return None if value is None else orjson.dumps(value).decode()

    def process_result_value(self, value: Any, dialect: Any) -> Any:
        return None if value is None else orjson.loads(value)


def padded(values: Sequence[T]) -> list[T]:
    """``values`` with the last one repeated until there are 1, 2, 4, 8, ... of them.

    For IN: so few different statements are prepared and planned once.
    """
    size = 1 << (len(values) - 1).bit_length()
    return [*values, *[values[-1]] * (size - len(values))]


class value_of(FunctionElement[str]):
    """``value_of(texts, key)``: the string under ``key`` in ``texts``, a JSON object of strings.

    So one statement writes another text into each of many rows.
    """

    type = Text()
    inherit_cache = True


@compiles(value_of, "sqlite")
def _value_of_sqlite(element: value_of, compiler: SQLCompiler, **kw: Any) -> str:
    texts, key = (compiler.process(clause, **kw) for clause in element.clauses)
    return f"json_extract({texts}, '$.\"' || {key} || '\"')"


@compiles(value_of, "postgresql")
def _value_of_postgresql(element: value_of, compiler: SQLCompiler, **kw: Any) -> str:
    texts, key = (compiler.process(clause, **kw) for clause in element.clauses)
    return f"(CAST({texts} AS JSON) ->> {key})"


@compiles(value_of, "mysql")
def _value_of_mysql(element: value_of, compiler: SQLCompiler, **kw: Any) -> str:
    texts, key = (compiler.process(clause, **kw) for clause in element.clauses)
    return f"JSON_UNQUOTE(JSON_EXTRACT({texts}, CONCAT('$.\"', {key}, '\"')))"


class now_ms(FunctionElement[int]):
    """The database's clock in milliseconds since the epoch, the same within one statement."""

    type = BigInteger()
    inherit_cache = True


@compiles(now_ms, "sqlite")
def _now_ms_sqlite(element: now_ms, compiler: SQLCompiler, **kw: Any) -> str:
    # unixepoch('subsec') came with 3.42; a Julian day in a double is exact to 0.05 ms.
    return "CAST(ROUND((julianday('now') - 2440587.5) * 86400000.0) AS INTEGER)"


@compiles(now_ms, "postgresql")
def _now_ms_postgresql(element: now_ms, compiler: SQLCompiler, **kw: Any) -> str:
    # now() would be the transaction's start, however long it has waited for a lock since.
    return "CAST(EXTRACT(EPOCH FROM statement_timestamp()) * 1000 AS BIGINT)"


@compiles(now_ms, "mysql")
def _now_ms_mysql(element: now_ms, compiler: SQLCompiler, **kw: Any) -> str:
    # The session's time zone is set to UTC on connecting, so that no hour comes twice.
    return "CAST(UNIX_TIMESTAMP(NOW(3)) * 1000 AS SIGNED)"
