"""An index to count jobs and to skip the newest ones."""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op

revision: str = "0005"
down_revision: str | None = "0004"
branch_labels: Sequence[str] | None = None
depends_on: Sequence[str] | None = None

NAME = "jobs_listed_idx"


def upgrade() -> None:
    bind = op.get_bind()
    # MySQL commits by itself: what an interrupted run has made is found and kept.
    if NAME in {index["name"] for index in sa.inspect(bind).get_indexes("jobs")}:
        return
    if bind.dialect.name == "mysql":
        op.create_index(NAME, "jobs", ["deleted_at_ms", "id"])
        return
    where = sa.text("deleted_at_ms IS NULL")
    op.create_index(NAME, "jobs", ["id"], postgresql_where=where, sqlite_where=where)
