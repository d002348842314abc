"""Bringing a database to the newest tables."""

from __future__ import annotations

from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, text
from sqlalchemy.ext.asyncio import AsyncEngine

VERSION_TABLE = "registry_version"
"""Not Alembic's own name for it: other services may keep their tables in the same database."""
_LOCK = 0x616E6E65616C  # "anneal": any number, as long as every process takes the same one


async def migrate(engine: AsyncEngine) -> None:
    """Run the migrations that are missing, all or none; several processes may do so at once."""
    async with engine.begin() as connection:
        if connection.dialect.name == "postgresql":
            await connection.execute(text(f"SELECT pg_advisory_xact_lock({_LOCK})"))
        await connection.run_sync(lambda db: command.upgrade(configure(db), "head"))


async def is_current(engine: AsyncEngine) -> bool:
    """Whether no migration is missing."""
    newest = set(ScriptDirectory.from_config(configure()).get_heads())
    async with engine.connect() as connection:
        found = await connection.run_sync(lambda db: _heads(db))
    return found == newest


def _heads(connection: Connection) -> set[str]:
    context = MigrationContext.configure(connection, opts={"version_table": VERSION_TABLE})
    return set(context.get_current_heads())


def configure(connection: Connection | None = None) -> Config:
    """Alembic's configuration for a connection."""
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations").replace("%", "%%"))
    config.attributes["connection"] = connection
    return config
