"""What a database fails with, as refusals that name the cause and say what to do."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from typing import Any

from sqlalchemy import Connection, MetaData, inspect, make_url
from sqlalchemy.exc import IntegrityError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from anneal.kit.errors import BackendFault, Down, NotYet

MIGRATE = "python -m anneal.registry.migrate"


class DatabaseFault(BackendFault):
    """The database refused, or did not answer."""

    backend = "database"


class DatabaseUnreachable(DatabaseFault, Down):
    """The database does not answer."""

    reason = "DATABASE_UNREACHABLE"


class DatabaseBusy(DatabaseFault, Down):
    """The database has no connection or no lock to give now."""

    reason = "DATABASE_BUSY"


class DatabaseReadOnly(DatabaseFault, Down):
    """The database takes no changes now: a standby, or one that is being switched over."""

    reason = "DATABASE_READ_ONLY"


class DatabaseFailed(DatabaseFault, Down):
    """The database failed for a reason of its own."""

    reason = "DATABASE_FAILED"


class DatabaseMissing(DatabaseFault, NotYet):
    """The server has no database of that name."""

    reason = "DATABASE_MISSING"


class DatabaseAccessDenied(DatabaseFault, NotYet):
    """The database does not know the account, or does not let it do this."""

    reason = "DATABASE_ACCESS_DENIED"


class DatabaseFull(DatabaseFault, NotYet):
    """The database has no room left."""

    reason = "DATABASE_FULL"


class DatabaseDamaged(DatabaseFault, NotYet):
    """The file is damaged, or is none of a database."""

    reason = "DATABASE_DAMAGED"


class TablesMissing(DatabaseFault, NotYet):
    """The tables are not there, or are those of an older release."""

    reason = "DATABASE_TABLES_MISSING"


class TablesNewer(DatabaseFault, NotYet):
    """The tables are those of a newer release."""

    reason = "DATABASE_TABLES_NEWER"


_TABLES = frozenset({"42P01", "42703", "3F000"})
"""SQLSTATE of an undefined table, an undefined column and an undefined schema."""
_DENIED = frozenset({"42501", "28000", "28P01"})
_BUSY = frozenset({"53300", "55P03", "53200", "53400"})
_SQLITE_DENIED = frozenset({sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_PERM, sqlite3.SQLITE_AUTH, sqlite3.SQLITE_READONLY})


def place_of(url: str) -> str:
    """A database as messages name it, without its password."""
    return make_url(url).render_as_string(hide_password=True)


def database_fault(error: BaseException, url: str) -> DatabaseFault | None:
    """The refusal for what a driver has raised; None for what is no failure of the database, such as wrong SQL.

    Args:
        error: what it raised, or what SQLAlchemy has made of it.
        url: of the database.
    """
    if isinstance(error, IntegrityError):
        return None
    where = place_of(url)
    for cause in _causes(error):
        if isinstance(cause, DatabaseFault):
            return cause
        state = str(getattr(cause, "sqlstate", None) or "")
        if state:
            return _of_state(state, _line(cause), where)
        code = getattr(cause, "sqlite_errorcode", None)
        if code is not None:
            return _of_sqlite(code & 0xFF, _line(cause), where)
        if isinstance(cause, PoolTimeout):
            return DatabaseBusy(f"all connections to the database {where} are in use", database=where)
        if isinstance(cause, (OSError, TimeoutError)) or type(cause).__module__.startswith("asyncpg"):
            return DatabaseUnreachable(
                f"the database {where} does not answer: {_line(cause)} (ANNEAL_DATABASE_URL)", database=where
            )
    return None


def connection_fault(error: BaseException, url: str) -> DatabaseFault:
    """The refusal for a connection that cannot be made, for a reason that `database_fault` has no words for."""
    where = place_of(url)
    return DatabaseUnreachable(
        f"the database {where} cannot be connected to: {_line(error)} (ANNEAL_DATABASE_URL)", database=where
    )


def _of_state(state: str, why: str, where: str) -> DatabaseFault | None:
    facts: dict[str, Any] = {"database": where, "sqlstate": state}
    if state in _TABLES:
        return tables_missing(where, why, sqlstate=state)
    if state in _DENIED:
        return DatabaseAccessDenied(
            f"the database {where} refuses this account: {why}; grant it what it needs, or correct ANNEAL_DATABASE_URL",
            **facts,
        )
    if state == "3D000":
        return DatabaseMissing(
            f"the database {where} does not exist: create it, or correct ANNEAL_DATABASE_URL", **facts
        )
    if state == "53100":
        return DatabaseFull(f"the database {where} has no room left: make room on its server", **facts)
    if state in _BUSY:
        return DatabaseBusy(f"the database {where} has no connection or lock to give: {why}", **facts)
    if state == "0A000" and "cached statement plan" in why:  # once for each connection; the next call has a new plan
        return DatabaseBusy(f"the tables of the database {where} have just been changed: {why}", **facts)
    if state == "25006":
        return DatabaseReadOnly(f"the database {where} takes no changes: {why}", **facts)
    if state.startswith(("08", "57P")):
        return DatabaseUnreachable(f"the database {where} does not answer: {why} (ANNEAL_DATABASE_URL)", **facts)
    if state.startswith(("53", "58", "XX")):
        return DatabaseFailed(f"the database {where} failed: {why}", **facts)
    return None


def _of_sqlite(code: int, why: str, where: str) -> DatabaseFault | None:
    facts: dict[str, Any] = {"database": where}
    if code == sqlite3.SQLITE_ERROR and why.startswith(("no such table", "no such column")):
        return tables_missing(where, why)
    if code in _SQLITE_DENIED:
        return DatabaseAccessDenied(
            f"the database {where} cannot be opened or changed: {why}; give its file and folder to the user that this "
            "process runs as",
            **facts,
        )
    if code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
        return DatabaseBusy(f"the database {where} is locked by another process: {why}", **facts)
    if code in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB):
        return DatabaseDamaged(f"the database {where} is damaged: {why}; restore it from a backup", **facts)
    if code == sqlite3.SQLITE_IOERR:
        return DatabaseFailed(f"the database {where} failed: {why}", **facts)
    return None  # SQLITE_FULL among them: `full_disk` has the words for it


def tables_missing(where: str, why: str, **facts: Any) -> TablesMissing:
    """The refusal for tables that are not those this release needs."""
    return TablesMissing(
        f"the tables of the database {where} are not of this release: {why}; restore a backup, or run `{MIGRATE}`",
        database=where,
        **facts,
    )


def missing_tables(connection: Connection, metadata: MetaData) -> str:
    """Which tables or columns the database lacks, in words; empty when it has all."""
    inspector = inspect(connection)
    there = set(inspector.get_table_names())
    tables = [table.name for table in metadata.sorted_tables if table.name not in there]
    if tables:
        return f"it has no table {', '.join(tables)}"
    columns = [
        f"{table.name}.{column.name}"
        for table in metadata.sorted_tables
        for known in [{column["name"] for column in inspector.get_columns(table.name)}]
        for column in table.columns
        if column.name not in known
    ]
    return f"it has no column {', '.join(columns)}" if columns else ""


def _causes(error: BaseException) -> Iterator[BaseException]:
    """The error and what it was raised from: SQLAlchemy keeps the driver's error in `orig`."""
    seen: set[int] = set()
    left: list[BaseException | None] = [error]
    while left:
        one = left.pop(0)
        if one is None or id(one) in seen:
            continue
        seen.add(id(one))
        yield one
        left += [getattr(one, "orig", None), one.__cause__]


def _line(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    # The adapter's own words carry the class of the driver's error before its text.
    return (lines[0].rpartition(">: ")[2] or lines[0])[:300] if lines else type(error).__name__
