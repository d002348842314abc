"""Alembic's entry: runs migrations on the connection it is handed."""

from __future__ import annotations

from alembic import context

from anneal.registry.adapters.sql.tables import Base

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=Base.metadata,
    # Others may keep tables of their own in the same database.
    version_table="registry_version",
    # SQLite cannot change a column in place; the table is copied instead.
    render_as_batch=True,
)
with context.begin_transaction():
    context.run_migrations()
