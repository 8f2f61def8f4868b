"""The instances of the pool, who serves each, and what they can run.

Migrations only go forward, while the version before still works.
"""

from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import mysql

revision: str = "0008"
down_revision: str | None = "0007"
branch_labels: Sequence[str] | None = None
depends_on: Sequence[str] | None = None

TEXT = sa.Text().with_variant(mysql.LONGTEXT(), "mysql")


def upgrade() -> None:
    _create(
        "instances",
        sa.Column("id", sa.String(255), nullable=False),
        sa.Column("url", sa.String(1024), nullable=False),
        sa.Column("origin", sa.String(16), nullable=False),
        sa.Column("host", sa.String(255)),
        sa.Column("wanted", sa.String(16), nullable=False),
        sa.Column("weight", sa.Double, nullable=False),
        sa.Column("tags", TEXT, nullable=False),
        sa.Column("configured_by", sa.String(255)),
        sa.Column("configured_at_ms", sa.BigInteger, nullable=False),
        sa.Column("driver", sa.String(255)),
        sa.Column("lease", sa.Integer, nullable=False),
        sa.Column("lease_expires_at_ms", sa.BigInteger),
        sa.Column("report", TEXT),
        sa.Column("capabilities", sa.String(64)),
        sa.Column("created_at_ms", sa.BigInteger, nullable=False),
        sa.Column("updated_at_ms", sa.BigInteger, nullable=False),
        sa.PrimaryKeyConstraint("id", name="instances_pkey"),
    )
    _create(
        "capabilities",
        sa.Column("hash", sa.String(64), nullable=False),
        sa.Column("body", TEXT, nullable=False),
        sa.Column("created_at_ms", sa.BigInteger, nullable=False),
        sa.PrimaryKeyConstraint("hash", name="capabilities_pkey"),
    )
    _create(
        "workers",
        sa.Column("name", sa.String(255), nullable=False),
        sa.Column("host", sa.String(255), nullable=False),
        sa.Column("expires_at_ms", sa.BigInteger, nullable=False),
        sa.PrimaryKeyConstraint("name", name="workers_pkey"),
    )


# MySQL commits each table by itself: what an interrupted run has made is found and kept.


def _create(table: str, *columns: Any) -> None:
    bind = op.get_bind()
    if sa.inspect(bind).has_table(table):
        return
    options: dict[str, Any] = {}
    if bind.dialect.name == "mysql":
        # Names that differ in case, accent or trailing spaces are different.
        is_mariadb = getattr(bind.dialect, "is_mariadb", False)
        options = {
            "mysql_engine": "InnoDB",
            "mysql_charset": "utf8mb4",
            "mysql_collate": "utf8mb4_nopad_bin" if is_mariadb else "utf8mb4_0900_bin",
        }
    op.create_table(table, *columns, **options)
