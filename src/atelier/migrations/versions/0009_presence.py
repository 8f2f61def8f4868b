"""Which processes live, and the name of the installation.

Migrations only go forward, while the version before still works.
"""

from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa
from alembic import op

revision: str = "0009"
down_revision: str | None = "0008"
branch_labels: Sequence[str] | None = None
depends_on: Sequence[str] | None = None


def upgrade() -> None:
    _create(
        "processes",
        sa.Column("id", sa.String(255), nullable=False),
        sa.Column("role", sa.String(16), nullable=False),
        sa.Column("host", sa.String(255), nullable=False),
        sa.Column("pid", sa.Integer, nullable=False),
        sa.Column("version", sa.String(64), nullable=False),
        sa.Column("running", sa.Integer, nullable=False),
        sa.Column("started_at_ms", sa.BigInteger, nullable=False),
        sa.Column("seen_at_ms", sa.BigInteger, nullable=False),
        sa.PrimaryKeyConstraint("id", name="processes_pkey"),
    )
    _create(
        "installation",
        sa.Column("name", sa.String(64), nullable=False),
        sa.Column("value", sa.String(255), nullable=False),
        sa.Column("created_at_ms", sa.BigInteger, nullable=False),
        sa.PrimaryKeyConstraint("name", name="installation_pkey"),
    )


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
