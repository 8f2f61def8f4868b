"""Registered workflows, and the versions of all that were registered or used."""

from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import mysql

revision: str = "0003"
down_revision: str | None = "0002"
branch_labels: Sequence[str] | None = None
depends_on: Sequence[str] | None = None

JSON = sa.Text().with_variant(mysql.LONGTEXT(), "mysql")


def upgrade() -> None:
    _create(
        "workflows",
        sa.Column("name", sa.String(255), nullable=False),
        sa.Column("version", sa.String(64), nullable=False),
        sa.Column("created_at_ms", sa.BigInteger, nullable=False),
        sa.Column("updated_at_ms", sa.BigInteger, nullable=False),
        sa.PrimaryKeyConstraint("name", name="workflows_pkey"),
    )
    _create(
        "workflow_versions",
        sa.Column("name", sa.String(255), nullable=False),
        sa.Column("version", sa.String(64), nullable=False),
        sa.Column("number", sa.Integer, nullable=False),
        sa.Column("origin", sa.String(16), nullable=False),
        sa.Column("body", JSON, nullable=False),
        sa.Column("created_at_ms", sa.BigInteger, nullable=False),
        sa.PrimaryKeyConstraint("name", "version", name="workflow_versions_pkey"),
        sa.UniqueConstraint("name", "number", name="workflow_versions_name_key"),
    )


# MySQL commits each table by itself: what an interrupted run has made is found and kept.


def _create(table: str, *columns: Any, **options: Any) -> None:
    bind = op.get_bind()
    if sa.inspect(bind).has_table(table):
        return
    if bind.dialect.name == "mysql":
        # Users, keys and ids that differ in case, accent or trailing spaces are different.
        is_mariadb = getattr(bind.dialect, "is_mariadb", False)
        options |= {
            "mysql_engine": "InnoDB",
            "mysql_charset": "utf8mb4",
            "mysql_collate": "utf8mb4_nopad_bin" if is_mariadb else "utf8mb4_0900_bin",
        }
    op.create_table(table, *columns, **options)
