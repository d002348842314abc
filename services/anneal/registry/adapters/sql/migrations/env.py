"""Alembic's entry: runs migrations on the connection it is handed."""

from __future__ import annotations

from alembic import context

from anneal.registry.adapters.sql.migrate import VERSION_TABLE
from anneal.registry.adapters.sql.tables import Base

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=Base.metadata,
    version_table=VERSION_TABLE,
    # SQLite cannot change a column in place; the table is copied instead.
    render_as_batch=True,
)
with context.begin_transaction():
    context.run_migrations()
