"""The tables of the queue: a narrow row that is written often, and beside it what it carries."""

from typing import Any

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Double,
    Index,
    Integer,
    String,
    Table,
    UniqueConstraint,
    literal_column,
    text,
)
from sqlalchemy.engine import Dialect as SqlDialect

from atelier.database import Id, Json, metadata

# Compared byte by byte, as ids are: all lanes of a user are one range.
LaneId = String(32).with_variant(String(32, collation="C"), "postgresql")

jobs = Table(
    "jobs",
    metadata,
    Column("id", Id, primary_key=True),
    # Order of arrival: the database's clock in microseconds (of which it gives whole
    # milliseconds), plus the place among jobs that were inserted together.
    Column("seq", BigInteger, nullable=False),
    # Lower goes first: the negated priority, since MariaDB before 10.8 can't keep an index
    # that ascends by one column and descends by another.
    Column("precedence", Integer, nullable=False),
    Column("status", String(16), nullable=False),
    Column("user_id", String(255), nullable=False),
    Column("workflow", String(255), nullable=False),
    Column("variant", String(64)),
    Column("requirement", String(64), nullable=False),
    Column("model", String(255)),
    Column("weight", Double, nullable=False),
    Column("estimate_ms", BigInteger),
    # What the start has charged to the user's share, to be corrected by what it took.
    Column("charged_ms", BigInteger),
    Column("attempts", Integer, nullable=False),
    Column("max_attempts", Integer, nullable=False),
    Column("avoid_instance", String(255)),
    Column("run_after_ms", BigInteger, nullable=False),
    Column("lease", Integer, nullable=False),
    # In no index: renewing it then rewrites nothing else (PostgreSQL's HOT updates).
    Column("lease_expires_at_ms", BigInteger),
    Column("worker", String(255)),
    Column("instance", String(255)),
    Column("prompt_id", Id),
    Column("cancel_requested", Boolean, nullable=False),
    # Written with the lease, by the same statement.
    Column("percent", Integer, nullable=False),
    Column("step", Integer),
    Column("steps", Integer),
    Column("node", String(255)),
    Column("created_at_ms", BigInteger, nullable=False),
    Column("started_at_ms", BigInteger),
    Column("submitted_at_ms", BigInteger),
    Column("finished_at_ms", BigInteger),
    Column("updated_at_ms", BigInteger, nullable=False),
    Column("deleted_at_ms", BigInteger),
    Column("batch", String(64)),
    Column("label", String(64)),
    Column("idempotency_key", String(255)),
    # None where an older version has queued it: given when it is seen.
    Column("lane", LaneId),
    UniqueConstraint("user_id", "idempotency_key"),
    # Room on each page for the new version of a row whose lease is renewed.
    postgresql_with={"fillfactor": 80},
)


def _has_partial_indexes(*_: Any, dialect: SqlDialect, **kw: Any) -> bool:
    return dialect.name != "mysql"


# Literal, not bound: neither PostgreSQL's generic plans nor SQLite match a partial index to a
# parameter.
QUEUED_ROWS = jobs.c.status == literal_column("'queued'")
RUNNING_ROWS = jobs.c.status == literal_column("'running'")

Index(
    "jobs_queued_idx",
    jobs.c.status,
    jobs.c.precedence,
    jobs.c.seq,
    jobs.c.id,
    postgresql_where=QUEUED_ROWS,
    sqlite_where=QUEUED_ROWS,
)
# All that is read to know what waits, and the order within each lane.
Index(
    "jobs_lanes_idx",
    jobs.c.status,
    jobs.c.lane,
    jobs.c.seq,
    jobs.c.id,
    jobs.c.run_after_ms,
    postgresql_where=QUEUED_ROWS,
    sqlite_where=QUEUED_ROWS,
)
Index("jobs_user_idx", jobs.c.user_id, jobs.c.id)
Index(
    "jobs_batch_idx",
    jobs.c.batch,
    jobs.c.id,
    postgresql_where=jobs.c.batch.is_not(None),
    sqlite_where=jobs.c.batch.is_not(None),
)
# MySQL has no partial indexes, and finds what runs by the first column of jobs_queued_idx.
Index(
    "jobs_running_idx",
    jobs.c.id,
    postgresql_where=RUNNING_ROWS,
    sqlite_where=RUNNING_ROWS,
).ddl_if(callable_=_has_partial_indexes)

# For numbered pages and their total, which would otherwise read every row.
_LISTED_ROWS = jobs.c.deleted_at_ms.is_(None)
Index(
    "jobs_listed_idx",
    jobs.c.id,
    postgresql_where=_LISTED_ROWS,
    sqlite_where=_LISTED_ROWS,
).ddl_if(callable_=_has_partial_indexes)
Index("jobs_listed_idx", jobs.c.deleted_at_ms, jobs.c.id).ddl_if(dialect="mysql")

# Written with its job, by the same transaction. No foreign key: MySQL would lock the job's row
# for each write here.
job_details = Table(
    "job_details",
    metadata,
    Column("job_id", Id, primary_key=True),
    Column("workflow_version", String(64), nullable=False),
    Column("dialect", String(32), nullable=False),
    # Of the request, to tell a repeated one from another under the same idempotency key.
    Column("fingerprint", String(64)),
    Column("seed", BigInteger),
    Column("inputs", Json, nullable=False),
    Column("graph", Json),
    Column("metadata", Json, nullable=False),
    Column("outputs", Json),
    Column("error", Json),
    Column("timings", Json),
    Column("previews", Json),
    # How pictures are to be kept, where the caller asked for a form.
    Column("conversion", Json),
    # Whether an earlier job's outputs may answer; None, from before there was a choice: no.
    Column("cache", Boolean),
    # Of what was run: equal keys, equal outputs. And whose outputs these are, if another's.
    Column("cache_key", String(64)),
    Column("cached_from", Id),
    Column("webhook_url", String(2048)),
    Index(
        None,
        "cache_key",
        postgresql_where=text("cache_key IS NOT NULL"),
        sqlite_where=text("cache_key IS NOT NULL"),
    ),
)

# What instances must have for a job, by hash: thousands of jobs share one.
requirements = Table(
    "requirements",
    metadata,
    Column("hash", String(64), primary_key=True),
    Column("body", Json, nullable=False),
    Column("created_at_ms", BigInteger, nullable=False),
)

# What each user has had of the instances, in milliseconds of their time divided by the weight.
shares = Table(
    "shares",
    metadata,
    Column("user_id", String(255), primary_key=True),
    Column("virtual_ms", Double, nullable=False),
    Column("updated_at_ms", BigInteger, nullable=False),
)

# How long jobs run, learned by all workers: a moving average.
run_times = Table(
    "run_times",
    metadata,
    Column("workflow", String(255), primary_key=True),
    # Empty where there is none: a key holds no NULL.
    Column("variant", String(64), primary_key=True),
    Column("instance", String(255), primary_key=True),
    Column("mean_ms", Double, nullable=False),
    Column("runs", BigInteger, nullable=False),
    Column("updated_at_ms", BigInteger, nullable=False),
)
