"""Bringing a database to the newest tables."""

from __future__ import annotations

from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, text
from sqlalchemy.ext.asyncio import AsyncEngine

from anneal.kit.sql import READING
from anneal.kit.sql_faults import TablesMissing, TablesNewer, missing_tables, place_of, tables_missing
from anneal.registry.adapters.sql.tables import Base

VERSION_TABLE = "registry_version"
"""Not Alembic's own name for it: other services may keep their tables in the same database."""
_LOCK = 0x616E6E65616C  # "anneal": any number, as long as every process takes the same one


async def migrate(engine: AsyncEngine) -> None:
    """Run the migrations that are missing, all or none; several processes may do so at once.

    Raises:
        TablesNewer: the tables are those of a newer release.
    """
    async with engine.begin() as connection:
        if connection.dialect.name == "postgresql":
            await connection.execute(text(f"SELECT pg_advisory_xact_lock({_LOCK})"))
        await connection.run_sync(_check_revision)
        await connection.run_sync(lambda db: command.upgrade(configure(db), "head"))


async def check(engine: AsyncEngine) -> None:
    """See that the tables are those of this release.

    Raises:
        TablesMissing: a migration is missing, or what one had made.
        TablesNewer: they are those of a newer release.
    """
    async with engine.execution_options(**READING).connect() as connection:
        await connection.run_sync(_check)


def _check(connection: Connection) -> None:
    found = _check_revision(connection)
    where = place_of(str(connection.engine.url))
    newest = set(ScriptDirectory.from_config(configure()).get_heads())
    if found != newest:
        has = f"they have revision {', '.join(sorted(found))}" if found else "there are none"
        raise tables_missing(where, f"{has}, and this release needs {', '.join(sorted(newest))}")
    lacking = missing_tables(connection, Base.metadata)
    if lacking:
        raise TablesMissing(
            f"the tables of the database {where} are damaged: {lacking}, and no migration makes it again; restore a "
            "backup, or give it an empty database and run `python -m anneal.registry.rebuild`",
            database=where,
        )


def _check_revision(connection: Connection) -> set[str]:
    """The revision of the tables, one that this release knows."""
    found = _heads(connection)
    known = {script.revision for script in ScriptDirectory.from_config(configure()).walk_revisions()}
    if found - known:
        where, revision = place_of(str(connection.engine.url)), ", ".join(sorted(found - known))
        raise TablesNewer(
            f"the tables of the database {where} have revision {revision}, which this release does not know: upgrade "
            "this service, or restore a backup of before",
            database=where,
            revision=revision,
        )
    return found


def _heads(connection: Connection) -> set[str]:
    context = MigrationContext.configure(connection, opts={"version_table": VERSION_TABLE})
    return set(context.get_current_heads())


def configure(connection: Connection | None = None) -> Config:
    """Alembic's configuration for a connection."""
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations").replace("%", "%%"))
    config.attributes["connection"] = connection
    return config
