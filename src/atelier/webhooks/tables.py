"""The tables of what is to be told."""

from sqlalchemy import BigInteger, Column, Index, Integer, String, Table, literal_column

from atelier.database import Id, Json, metadata

# One row for each end of a job that has an address; a job that is run again may end again.
webhooks = Table(
    "webhooks",
    metadata,
    # Also the header webhook-id, by which a receiver knows what it has had already.
    Column("id", Id, primary_key=True),
    Column("job_id", Id, nullable=False),
    Column("url", String(2048), nullable=False),
    Column("host", String(255), nullable=False),
    Column("event", String(64), nullable=False),
    Column("body", Json, nullable=False),
    Column("status", String(16), nullable=False),
    Column("attempts", Integer, nullable=False),
    Column("lease", Integer, nullable=False),
    # When it may be sent; while it is being sent, when another worker may.
    Column("due_at_ms", BigInteger, nullable=False),
    Column("last_error", String(500)),
    Column("created_at_ms", BigInteger, nullable=False),
    Column("ended_at_ms", BigInteger),
)

# Literal, not bound: neither PostgreSQL's generic plans nor SQLite match a partial index to a
# parameter.
PENDING_ROWS = webhooks.c.status == literal_column("'pending'")

Index(
    "webhooks_due_idx",
    webhooks.c.status,
    webhooks.c.due_at_ms,
    postgresql_where=PENDING_ROWS,
    sqlite_where=PENDING_ROWS,
)
Index("webhooks_job_id_idx", webhooks.c.job_id)

webhook_secrets = Table(
    "webhook_secrets",
    metadata,
    Column("name", String(64), primary_key=True),
    Column("secret", String(255), nullable=False),
    Column("created_at_ms", BigInteger, nullable=False),
)
