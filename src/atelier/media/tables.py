"""The tables of files: those that came in, those that jobs made, and what graphs call them."""

from sqlalchemy import BigInteger, Column, Double, Index, Integer, String, Table

from atelier.database import Id, metadata

assets = Table(
    "assets",
    metadata,
    Column("id", Id, primary_key=True),
    Column("user_id", String(255), nullable=False),
    Column("kind", String(16), nullable=False),
    Column("key", String(512), nullable=False),
    Column("thumbnail_key", String(512)),
    Column("media_type", String(127), nullable=False),
    Column("width", Integer),
    Column("height", Integer),
    Column("size_bytes", BigInteger, nullable=False),
    Column("sha256", String(64), nullable=False),
    Column("thumbhash", String(64)),
    Column("filename", String(255)),
    Column("job_id", Id),
    Column("node", String(255)),
    # The place among a job's outputs.
    Column("seq", Integer, nullable=False),
    Column("created_at_ms", BigInteger, nullable=False),
    Column("deleted_at_ms", BigInteger),
    Column("duration_seconds", Double),
    Column("fps", Double),
    Column("frames", Integer),
    Index(None, "job_id"),
    Index(None, "user_id", "id"),
    # Several assets may share a file: it goes with the last of them.
    Index(None, "key"),
)
Index(
    "assets_deleted_idx",
    assets.c.deleted_at_ms,
    assets.c.id,
    postgresql_where=assets.c.deleted_at_ms.is_not(None),
    sqlite_where=assets.c.deleted_at_ms.is_not(None),
)

# Whose name is here is only told by the asset: one that is deleted gives its name back.
named_inputs = Table(
    "named_inputs",
    metadata,
    # Below an input folder that all instances seem to share: "cat.png", "cats/cat.png".
    Column("path", String(512), primary_key=True),
    Column("asset_id", Id, nullable=False),
    Column("sha256", String(64), nullable=False),
    Column("updated_at_ms", BigInteger, nullable=False),
)
