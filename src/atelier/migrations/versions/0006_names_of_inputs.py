"""Names by which graphs mean the pictures that were uploaded.

Migrations only go forward, while the version before still works.
"""

from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa
from alembic import op

revision: str = "0006"
down_revision: str | None = "0005"
branch_labels: Sequence[str] | None = None
depends_on: Sequence[str] | None = None

ID = sa.String(36).with_variant(sa.String(36, collation="C"), "postgresql")


def upgrade() -> None:
    bind = op.get_bind()
    # MySQL commits by itself: what an interrupted run has made is found and kept.
    if sa.inspect(bind).has_table("named_inputs"):
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
    op.create_table(
        "named_inputs",
        sa.Column("path", sa.String(512), nullable=False),
        sa.Column("asset_id", ID, nullable=False),
        sa.Column("sha256", sa.String(64), nullable=False),
        sa.Column("updated_at_ms", sa.BigInteger, nullable=False),
        sa.PrimaryKeyConstraint("path", name="named_inputs_pkey"),
        **options,
    )
