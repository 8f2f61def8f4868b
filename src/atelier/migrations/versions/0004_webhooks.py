"""Where the end of a job is told, what is still to be told, and the secret that signs it."""

from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import mysql

revision: str = "0004"
down_revision: str | None = "0003"
branch_labels: Sequence[str] | None = None
depends_on: Sequence[str] | None = None

ID = sa.String(36).with_variant(sa.String(36, collation="C"), "postgresql")
JSON = sa.Text().with_variant(mysql.LONGTEXT(), "mysql")


def upgrade() -> None:
    inspector = sa.inspect(op.get_bind())
    if "webhook_url" not in {column["name"] for column in inspector.get_columns("job_details")}:
        op.add_column("job_details", sa.Column("webhook_url", sa.String(2048)))
    _create(
        "webhooks",
        sa.Column("id", ID, nullable=False),
        sa.Column("job_id", ID, nullable=False),
        sa.Column("url", sa.String(2048), nullable=False),
        sa.Column("host", sa.String(255), nullable=False),
        sa.Column("event", sa.String(64), nullable=False),
        sa.Column("body", JSON, nullable=False),
        sa.Column("status", sa.String(16), nullable=False),
        sa.Column("attempts", sa.Integer, nullable=False),
        sa.Column("lease", sa.Integer, nullable=False),
        sa.Column("due_at_ms", sa.BigInteger, nullable=False),
        sa.Column("last_error", sa.String(500)),
        sa.Column("created_at_ms", sa.BigInteger, nullable=False),
        sa.Column("ended_at_ms", sa.BigInteger),
        sa.PrimaryKeyConstraint("id", name="webhooks_pkey"),
    )
    _create(
        "webhook_secrets",
        sa.Column("name", sa.String(64), nullable=False),
        sa.Column("secret", sa.String(255), nullable=False),
        sa.Column("created_at_ms", sa.BigInteger, nullable=False),
        sa.PrimaryKeyConstraint("name", name="webhook_secrets_pkey"),
    )
    _index("webhooks_due_idx", "webhooks", ["status", "due_at_ms"], "status = 'pending'")
    _index("webhooks_job_id_idx", "webhooks", ["job_id"])


# MySQL commits each of these by itself: what an interrupted run has made is found and kept.


def _create(table: str, *columns: Any) -> None:
    bind = op.get_bind()
    if sa.inspect(bind).has_table(table):
        return
    options: dict[str, Any] = {}
    if bind.dialect.name == "mysql":
        is_mariadb = getattr(bind.dialect, "is_mariadb", False)
        options = {
            "mysql_engine": "InnoDB",
            "mysql_charset": "utf8mb4",
            "mysql_collate": "utf8mb4_nopad_bin" if is_mariadb else "utf8mb4_0900_bin",
        }
    op.create_table(table, *columns, **options)


def _index(name: str, table: str, columns: list[str], rows: str | None = None) -> None:
    if name in {index["name"] for index in sa.inspect(op.get_bind()).get_indexes(table)}:
        return
    where = None if rows is None else sa.text(rows)
    op.create_index(name, table, columns, postgresql_where=where, sqlite_where=where)
