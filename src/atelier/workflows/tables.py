"""The tables of registered workflows, and of every version that was registered or used."""

from sqlalchemy import BigInteger, Column, Integer, String, Table, UniqueConstraint

from atelier.database import Json, metadata

# What is registered now: the version that its name means.
workflows = Table(
    "workflows",
    metadata,
    Column("name", String(255), primary_key=True),
    Column("version", String(64), nullable=False),
    Column("created_at_ms", BigInteger, nullable=False),
    Column("updated_at_ms", BigInteger, nullable=False),
)

# Every content that was registered, or that a job was accepted with. Rows are never changed.
workflow_versions = Table(
    "workflow_versions",
    metadata,
    Column("name", String(255), primary_key=True),
    Column("version", String(64), primary_key=True),
    # 1, 2, 3, ... of each name.
    Column("number", Integer, nullable=False),
    Column("origin", String(16), nullable=False),
    Column("body", Json, nullable=False),
    Column("created_at_ms", BigInteger, nullable=False),
    UniqueConstraint("name", "number"),
)
