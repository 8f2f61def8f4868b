"""Outputs of every kind, conversions, and results that answer again."""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import mysql

revision: str = "0002"
down_revision: str | None = "0001"
branch_labels: Sequence[str] | None = None
depends_on: Sequence[str] | None = None

ID = sa.String(36).with_variant(sa.String(36, collation="C"), "postgresql")
JSON = sa.Text().with_variant(mysql.LONGTEXT(), "mysql")


def upgrade() -> None:
    _add("assets", sa.Column("duration_seconds", sa.Double))
    _add("assets", sa.Column("fps", sa.Double))
    _add("assets", sa.Column("frames", sa.Integer))
    _add("job_details", sa.Column("previews", JSON))
    _add("job_details", sa.Column("conversion", JSON))
    _add("job_details", sa.Column("cache", sa.Boolean))
    _add("job_details", sa.Column("cache_key", sa.String(64)))
    _add("job_details", sa.Column("cached_from", ID))
    _index("assets_key_idx", "assets", ["key"])
    _index("assets_deleted_idx", "assets", ["deleted_at_ms", "id"], "deleted_at_ms IS NOT NULL")
    _index("job_details_cache_key_idx", "job_details", ["cache_key"], "cache_key IS NOT NULL")


# MySQL commits each of these by itself: what an interrupted run has made is found and kept.


def _add(table: str, column: "sa.Column[object]") -> None:
    if column.name not in {one["name"] for one in sa.inspect(op.get_bind()).get_columns(table)}:
        op.add_column(table, column)


def _index(name: str, table: str, columns: list[str], rows: str | None = None) -> None:
    if name in {index["name"] for index in sa.inspect(op.get_bind()).get_indexes(table)}:
        return
    where = None if rows is None else sa.text(rows)
    op.create_index(name, table, columns, postgresql_where=where, sqlite_where=where)
