"""Jobs, what they need, and the pictures they take and make.

Migrations only go forward, while the version before still works.
"""

from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import mysql

revision: str = "0001"
down_revision: str | None = None
branch_labels: Sequence[str] | None = None
depends_on: Sequence[str] | None = None

ID = sa.String(36).with_variant(sa.String(36, collation="C"), "postgresql")
JSON = sa.Text().with_variant(mysql.LONGTEXT(), "mysql")


def upgrade() -> None:
    _create(
        "jobs",
        sa.Column("id", ID, nullable=False),
        sa.Column("seq", sa.BigInteger, nullable=False),
        sa.Column("precedence", sa.Integer, nullable=False),
        sa.Column("status", sa.String(16), nullable=False),
        sa.Column("user_id", sa.String(255), nullable=False),
        sa.Column("workflow", sa.String(255), nullable=False),
        sa.Column("variant", sa.String(64)),
        sa.Column("requirement", sa.String(64), nullable=False),
        sa.Column("model", sa.String(255)),
        sa.Column("weight", sa.Double, nullable=False),
        sa.Column("estimate_ms", sa.BigInteger),
        sa.Column("charged_ms", sa.BigInteger),
        sa.Column("attempts", sa.Integer, nullable=False),
        sa.Column("max_attempts", sa.Integer, nullable=False),
        sa.Column("avoid_instance", sa.String(255)),
        sa.Column("run_after_ms", sa.BigInteger, nullable=False),
        sa.Column("lease", sa.Integer, nullable=False),
        sa.Column("lease_expires_at_ms", sa.BigInteger),
        sa.Column("worker", sa.String(255)),
        sa.Column("instance", sa.String(255)),
        sa.Column("prompt_id", ID),
        sa.Column("cancel_requested", sa.Boolean, nullable=False),
        sa.Column("percent", sa.Integer, nullable=False),
        sa.Column("step", sa.Integer),
        sa.Column("steps", sa.Integer),
        sa.Column("node", sa.String(255)),
        sa.Column("created_at_ms", sa.BigInteger, nullable=False),
        sa.Column("started_at_ms", sa.BigInteger),
        sa.Column("submitted_at_ms", sa.BigInteger),
        sa.Column("finished_at_ms", sa.BigInteger),
        sa.Column("updated_at_ms", sa.BigInteger, nullable=False),
        sa.Column("deleted_at_ms", sa.BigInteger),
        sa.Column("batch", sa.String(64)),
        sa.Column("label", sa.String(64)),
        sa.Column("idempotency_key", sa.String(255)),
        sa.PrimaryKeyConstraint("id", name="jobs_pkey"),
        sa.UniqueConstraint("user_id", "idempotency_key", name="jobs_user_id_key"),
        postgresql_with={"fillfactor": 80},
    )
    _create(
        "job_details",
        sa.Column("job_id", ID, nullable=False),
        sa.Column("workflow_version", sa.String(64), nullable=False),
        sa.Column("dialect", sa.String(32), nullable=False),
        sa.Column("fingerprint", sa.String(64)),
        sa.Column("seed", sa.BigInteger),
        sa.Column("inputs", JSON, nullable=False),
        sa.Column("graph", JSON),
        sa.Column("metadata", JSON, nullable=False),
        sa.Column("outputs", JSON),
        sa.Column("error", JSON),
        sa.Column("timings", JSON),
        sa.PrimaryKeyConstraint("job_id", name="job_details_pkey"),
    )
    _create(
        "requirements",
        sa.Column("hash", sa.String(64), nullable=False),
        sa.Column("body", JSON, nullable=False),
        sa.Column("created_at_ms", sa.BigInteger, nullable=False),
        sa.PrimaryKeyConstraint("hash", name="requirements_pkey"),
    )
    _create(
        "assets",
        sa.Column("id", ID, nullable=False),
        sa.Column("user_id", sa.String(255), nullable=False),
        sa.Column("kind", sa.String(16), nullable=False),
        sa.Column("key", sa.String(512), nullable=False),
        sa.Column("thumbnail_key", sa.String(512)),
        sa.Column("media_type", sa.String(127), nullable=False),
        sa.Column("width", sa.Integer),
        sa.Column("height", sa.Integer),
        sa.Column("size_bytes", sa.BigInteger, nullable=False),
        sa.Column("sha256", sa.String(64), nullable=False),
        sa.Column("thumbhash", sa.String(64)),
        sa.Column("filename", sa.String(255)),
        sa.Column("job_id", ID),
        sa.Column("node", sa.String(255)),
        sa.Column("seq", sa.Integer, nullable=False),
        sa.Column("created_at_ms", sa.BigInteger, nullable=False),
        sa.Column("deleted_at_ms", sa.BigInteger),
        sa.PrimaryKeyConstraint("id", name="assets_pkey"),
    )
    _index("jobs_queued_idx", "jobs", ["status", "precedence", "seq", "id"], "status = 'queued'")
    _index("jobs_user_idx", "jobs", ["user_id", "id"])
    _index("jobs_batch_idx", "jobs", ["batch", "id"], "batch IS NOT NULL")
    if op.get_bind().dialect.name != "mysql":
        _index("jobs_running_idx", "jobs", ["id"], "status = 'running'")
    _index("assets_job_id_idx", "assets", ["job_id"])
    _index("assets_user_id_idx", "assets", ["user_id", "id"])


# MySQL commits each of these by itself: what an interrupted run has made is found and kept.


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


def _index(name: str, table: str, columns: list[str], rows: str | None = None) -> None:
    if name in {index["name"] for index in sa.inspect(op.get_bind()).get_indexes(table)}:
        return
    where = None if rows is None else sa.text(rows)
    op.create_index(name, table, columns, postgresql_where=where, sqlite_where=where)
