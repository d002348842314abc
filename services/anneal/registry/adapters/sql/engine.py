"""Opening the database: durable, strict, and with one writer at a time where that is all it can do."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Connection, event
from sqlalchemy.engine import make_url
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

WRITING = "anneal_writing"
"""Execution option of the connections that are going to write."""

_BUSY_MS = 30_000
_PRAGMAS = (
    "PRAGMA journal_mode=WAL",
    f"PRAGMA busy_timeout={_BUSY_MS}",
    "PRAGMA foreign_keys=ON",
    # NORMAL loses acknowledged transactions at a power cut.
    "PRAGMA synchronous=FULL",
)


def open_engine(url: str) -> AsyncEngine:
    """An engine for `sqlite+aiosqlite:///path` or `postgresql+asyncpg://...`."""
    engine = create_async_engine(url, pool_pre_ping=not is_sqlite(url))
    if is_sqlite(url):
        event.listen(engine.sync_engine, "connect", _set_pragmas)
        event.listen(engine.sync_engine, "begin", _begin)
    return engine


def is_sqlite(url: str) -> bool:
    """Whether the address is one of SQLite."""
    return make_url(url).get_backend_name() == "sqlite"


def _set_pragmas(connection: Any, _record: Any) -> None:
    # The driver's own transaction handling begins too late and too weakly; `_begin` does it.
    connection.isolation_level = None
    cursor = connection.cursor()
    for pragma in _PRAGMAS:
        cursor.execute(pragma)
    cursor.close()


def _begin(connection: Connection) -> None:
    # A writer takes its lock at once: upgrading a read transaction fails when somebody else wrote in between.
    writing = connection.get_execution_options().get(WRITING, False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writing else "BEGIN")
