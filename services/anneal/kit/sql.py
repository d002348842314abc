"""One way to open a database: SQLite or PostgreSQL, by the same SQLAlchemy models."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from sqlalchemy import event, make_url
from sqlalchemy.exc import ArgumentError
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from anneal.kit.settings import Misconfigured
from anneal.kit.sql_faults import DatabaseFault, connection_fault, database_fault

BUSY_TIMEOUT_S = 15
"""How long SQLite waits for another writer."""

READING = {"anneal_reading": True}
"""Execution options of connections that only read: in SQLite they neither wait for a writer nor hold one up."""


def open_engine(url: str, *, on_fault: Callable[[DatabaseFault], None] = lambda _: None) -> AsyncEngine:
    """An engine whose transactions are whole and durable.

    SQLite runs with a write-ahead log, waits for other writers, checks foreign keys, writes through to the disk
    (`synchronous=FULL`: NORMAL loses acknowledged rows at a power cut) and takes its write lock when a transaction
    begins, so that reading first and writing later cannot fail half-way. `engine.execution_options(**READING)` takes no
    such lock.

    What the database fails with is raised as one of the refusals in `sql_faults`, not as an error of SQLAlchemy; what
    comes of the SQL itself, such as a broken constraint, stays what it is.

    Args:
        url: `sqlite+aiosqlite:///file.db` or `postgresql+asyncpg://user:password@host/database`.
        on_fault: called with each of those refusals.

    Raises:
        Misconfigured: the URL is none, or one of a database or driver that is not there.
    """
    try:
        parsed = make_url(url)
        if not is_sqlite(url):
            return _refusing(create_async_engine(url, pool_pre_ping=True), url, on_fault)
    except (ArgumentError, ImportError):  # neither's text may be shown: it can hold the password
        raise Misconfigured(
            "ANNEAL_DATABASE_URL is not of the form postgresql+asyncpg://user:password@host/database"
        ) from None
    if parsed.database and parsed.database != ":memory:":
        try:
            Path(parsed.database).parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise Misconfigured(f"cannot make the folder of the database {parsed.database}: {error.strerror}") from None
    engine = _refusing(create_async_engine(url, connect_args={"factory": _Connection}), url, on_fault)

    @event.listens_for(engine.sync_engine, "connect")
    def _pragmas(connection: Any, _record: Any) -> None:
        connection.isolation_level = None
        cursor = connection.cursor()
        cursor.execute(f"PRAGMA busy_timeout={BUSY_TIMEOUT_S * 1000}")
        _write_ahead(cursor)
        for pragma in ("foreign_keys=ON", "synchronous=FULL"):
            cursor.execute(f"PRAGMA {pragma}")
        cursor.close()

    @event.listens_for(engine.sync_engine, "begin")
    def _begin(connection: Any) -> None:
        reading = connection.get_execution_options().get("anneal_reading", False)
        connection.exec_driver_sql("BEGIN" if reading else "BEGIN IMMEDIATE")

    return engine


def _refusing(engine: AsyncEngine, url: str, on_fault: Callable[[DatabaseFault], None]) -> AsyncEngine:
    """Have an engine raise refusals for what the database fails with, while connecting and after."""

    def refuse(error: BaseException) -> None:
        fault = database_fault(error, url)
        if fault is not None:
            on_fault(fault)
            raise fault from error

    @event.listens_for(engine.sync_engine, "do_connect")
    def _connect(dialect: Any, _record: Any, arguments: Any, options: Any) -> Any:
        try:
            return dialect.connect(*arguments, **options)
        except Exception as error:
            refuse(error)
            # Whatever else fails while connecting is no fault of the SQL, either.
            fault = connection_fault(error, url)
            on_fault(fault)
            raise fault from error

    @event.listens_for(engine.sync_engine, "handle_error")
    def _handle(context: Any) -> None:
        if not context.is_pre_ping:  # the pool makes another connection then
            refuse(context.sqlalchemy_exception or context.original_exception)

    return engine


class _Connection(sqlite3.Connection):
    """Ends its transaction when it is closed.

    A caller that goes away in the middle of a transaction has its connection closed while a cursor still stands on it.
    SQLite then keeps the connection, and its write lock, until Python drops that cursor.
    """

    def close(self) -> None:
        if self.in_transaction:
            self.rollback()
        super().close()


def _write_ahead(cursor: Any) -> None:
    """Switch the file to its write-ahead log, once for all connections.

    Two connections that switch a new file at once would wait for each other; SQLite refuses one of them at once instead
    of waiting, whatever the busy timeout.
    """
    deadline = time.monotonic() + BUSY_TIMEOUT_S
    while True:
        try:
            cursor.execute("PRAGMA journal_mode=WAL")
        except sqlite3.OperationalError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.01)
        else:
            return


def is_sqlite(url: str) -> bool:
    """Whether a URL is one of SQLite."""
    return make_url(url).get_backend_name() == "sqlite"
