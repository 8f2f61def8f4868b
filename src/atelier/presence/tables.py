"""The processes that share the database, and what is true of all of them."""

from sqlalchemy import BigInteger, Column, Integer, String, Table

from atelier.database import metadata

# One row for each API and worker process, written every few seconds while it lives.
processes = Table(
    "processes",
    metadata,
    Column("id", String(255), primary_key=True),
    Column("role", String(16), nullable=False),
    Column("host", String(255), nullable=False),
    Column("pid", Integer, nullable=False),
    Column("version", String(64), nullable=False),
    Column("running", Integer, nullable=False),
    Column("started_at_ms", BigInteger, nullable=False),
    Column("seen_at_ms", BigInteger, nullable=False),
)

installation = Table(
    "installation",
    metadata,
    Column("name", String(64), primary_key=True),
    Column("value", String(255), nullable=False),
    Column("created_at_ms", BigInteger, nullable=False),
)
