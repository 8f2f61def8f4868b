"""The tables of the pool: its instances, who serves each, and what they can run."""

from sqlalchemy import BigInteger, Column, Double, Integer, String, Table, Text
from sqlalchemy.dialects import mysql

from atelier.database import Json, metadata

instances = Table(
    "instances",
    metadata,
    Column("id", String(255), primary_key=True),
    Column("url", String(1024), nullable=False),
    Column("origin", String(16), nullable=False),
    # Of an address that means the machine itself: nobody else reaches it there.
    Column("host", String(255)),
    Column("wanted", String(16), nullable=False),
    Column("weight", Double, nullable=False),
    Column("tags", Json, nullable=False),
    # Who last said that it has it in its configuration, and when.
    Column("configured_by", String(255)),
    Column("configured_at_ms", BigInteger, nullable=False),
    # The worker that serves it, under a number that grows with each.
    Column("driver", String(255)),
    Column("lease", Integer, nullable=False),
    Column("lease_expires_at_ms", BigInteger),
    # What that worker says of it, and the state of its object_info.
    Column("report", Json),
    Column("capabilities", String(64)),
    Column("created_at_ms", BigInteger, nullable=False),
    Column("updated_at_ms", BigInteger, nullable=False),
)

# Once for all instances that tell the same: compressed, since it is megabytes, and as text, since
# one of the drivers can't send bytes.
capabilities = Table(
    "capabilities",
    metadata,
    Column("hash", String(64), primary_key=True),
    Column("body", Text().with_variant(mysql.LONGTEXT(), "mysql"), nullable=False),
    Column("created_at_ms", BigInteger, nullable=False),
)

# Who is there to share the instances.
workers = Table(
    "workers",
    metadata,
    Column("name", String(255), primary_key=True),
    Column("host", String(255), nullable=False),
    Column("expires_at_ms", BigInteger, nullable=False),
)
