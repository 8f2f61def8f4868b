"""Alembic's entry point. The connection, its transaction and its locks are the caller's."""

from alembic import context
from sqlalchemy.engine import Connection

from atelier.database import metadata

connection: Connection = context.config.attributes["connection"]
context.configure(
    connection=connection,
    target_metadata=metadata,
    compare_type=True,
)
with context.begin_transaction():
    context.run_migrations()
