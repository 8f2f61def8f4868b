"""Lanes of queued jobs, shares of users, and learned run times.

Migrations only go forward, while the version before still works: it queues jobs without a lane,
which are given theirs when they are seen.
"""

from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa
from alembic import op

revision: str = "0007"
down_revision: str | None = "0006"
branch_labels: Sequence[str] | None = None
depends_on: Sequence[str] | None = None

LANE = sa.String(32).with_variant(sa.String(32, collation="C"), "postgresql")
INDEX = "jobs_lanes_idx"


def upgrade() -> None:
    inspector = sa.inspect(op.get_bind())
    # MySQL commits each of these by itself: what an interrupted run has made is found and kept.
    if "lane" not in {column["name"] for column in inspector.get_columns("jobs")}:
        op.add_column("jobs", sa.Column("lane", LANE))
    if INDEX not in {index["name"] for index in inspector.get_indexes("jobs")}:
        queued = sa.text("status = 'queued'")
        op.create_index(
            INDEX,
            "jobs",
            ["status", "lane", "seq", "id", "run_after_ms"],
            postgresql_where=queued,
            sqlite_where=queued,
        )
    _create(
        "shares",
        sa.Column("user_id", sa.String(255), nullable=False),
        sa.Column("virtual_ms", sa.Double, nullable=False),
        sa.Column("updated_at_ms", sa.BigInteger, nullable=False),
        sa.PrimaryKeyConstraint("user_id", name="shares_pkey"),
    )
    _create(
        "run_times",
        sa.Column("workflow", sa.String(255), nullable=False),
        sa.Column("variant", sa.String(64), nullable=False),
        sa.Column("instance", sa.String(255), nullable=False),
        sa.Column("mean_ms", sa.Double, nullable=False),
        sa.Column("runs", sa.BigInteger, nullable=False),
        sa.Column("updated_at_ms", sa.BigInteger, nullable=False),
        sa.PrimaryKeyConstraint("workflow", "variant", "instance", name="run_times_pkey"),
    )


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
