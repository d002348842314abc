"""The job store's tables."""

from __future__ import annotations

from typing import Any

from sqlalchemy import (
    Connection,
    Float,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    String,
    insert,
    inspect,
    select,
    update,
)
from sqlalchemy.ext.asyncio import AsyncEngine
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column
from sqlalchemy.schema import CreateColumn

from anneal.kit.sql import READING
from anneal.kit.sql_faults import TablesMissing, TablesNewer, missing_tables, place_of, tables_missing

REVISION = 1
"""Of these tables. A release that works with tables of the one before, as with a new column, leaves it as it is."""
_LOCK = 0x616E6A6F6273  # "anjobs": any number, as long as every process takes the same one


class Base(DeclarativeBase):
    """The job store's tables."""


class JobRow(Base):
    """A job. Times are seconds since the epoch; messages are serialized protobuf."""

    __tablename__ = "jobs"

    name: Mapped[str] = mapped_column(String(200), primary_key=True)
    project: Mapped[str] = mapped_column(String(80))
    kind: Mapped[str] = mapped_column(String(40))
    state: Mapped[str] = mapped_column(String(12))
    attempt: Mapped[int] = mapped_column(Integer, default=0)
    failures: Mapped[int] = mapped_column(Integer, default=0, server_default="0")
    max_attempts: Mapped[int] = mapped_column(Integer)
    request: Mapped[bytes] = mapped_column(LargeBinary)
    request_hash: Mapped[str] = mapped_column(String(64))
    request_key: Mapped[str | None] = mapped_column(String(200), unique=True)
    request_id: Mapped[str] = mapped_column(String(64), default="")
    claim_hash: Mapped[str] = mapped_column(String(64), default="")
    token_hash: Mapped[str] = mapped_column(String(64), default="")
    lease_until: Mapped[float] = mapped_column(Float, default=0.0)
    not_before: Mapped[float] = mapped_column(Float, default=0.0)
    last_batch: Mapped[int] = mapped_column(Integer, default=0)
    last_sequence: Mapped[int] = mapped_column(Integer, default=0)
    progress: Mapped[bytes | None] = mapped_column(LargeBinary)
    result: Mapped[bytes | None] = mapped_column(LargeBinary)
    error: Mapped[bytes | None] = mapped_column(LargeBinary)
    last_failure: Mapped[str] = mapped_column(String(2000), default="")
    pending_reason: Mapped[str] = mapped_column(String(20), default="", server_default="")
    pending_text: Mapped[str] = mapped_column(String(2000), default="", server_default="")
    pending_since: Mapped[float] = mapped_column(Float, default=0.0, server_default="0")
    claim_time: Mapped[float] = mapped_column(Float, default=0.0, server_default="0")
    away_since: Mapped[float] = mapped_column(Float, default=0.0, server_default="0")
    create_time: Mapped[float] = mapped_column(Float)
    start_time: Mapped[float | None] = mapped_column(Float)
    end_time: Mapped[float | None] = mapped_column(Float)

    __table_args__ = (
        Index("jobs_by_state", "state", "not_before"),
        Index("jobs_by_project", "project", "create_time", "name"),
    )


class EventRow(Base):
    """Something that happened in a job; `sequence` rises by one from 1."""

    __tablename__ = "job_events"

    operation: Mapped[str] = mapped_column(ForeignKey("jobs.name", ondelete="CASCADE"), primary_key=True)
    sequence: Mapped[int] = mapped_column(Integer, primary_key=True)
    time: Mapped[float] = mapped_column(Float)
    payload: Mapped[bytes] = mapped_column(LargeBinary)


class RevisionRow(Base):
    """The one row that says which revision the tables are."""

    __tablename__ = "jobs_revision"

    revision: Mapped[int] = mapped_column(Integer, primary_key=True)


def create(connection: Connection) -> None:
    """Create the tables that are missing, and the columns that tables of an earlier release lack.

    A column added here must have a `server_default`: its value in the rows that exist.

    Raises:
        TablesNewer: the tables are those of a newer release.
    """
    if connection.dialect.name == "postgresql":  # servers that share it may start at once; SQLite locks by itself
        connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({_LOCK})")
    _check_revision(connection)
    Base.metadata.create_all(connection)
    for table in Base.metadata.sorted_tables:
        known = {column["name"] for column in inspect(connection).get_columns(table.name)}
        for column in table.columns:
            if column.name not in known:
                definition = CreateColumn(column).compile(dialect=connection.dialect)
                connection.exec_driver_sql(f"ALTER TABLE {table.name} ADD COLUMN {definition}")
    if _revision(connection) is None:
        connection.execute(insert(RevisionRow).values(revision=REVISION))
    else:
        connection.execute(update(RevisionRow).values(revision=REVISION))


def check(connection: Connection) -> None:
    """See that the tables are those of this release.

    Raises:
        TablesMissing: they are not there, or lack columns.
        TablesNewer: they are those of a newer release.
    """
    _check_revision(connection)
    lacking = missing_tables(connection, Base.metadata)
    if lacking:
        raise tables_missing(place_of(str(connection.engine.url)), lacking)


async def prepare(engine: AsyncEngine) -> None:
    """See that the tables are those of this release, and make them where they are missing.

    An account that may not make them is enough where they are there.

    Raises:
        DatabaseFault: they are those of a newer release, or cannot be made.
    """
    try:
        async with engine.execution_options(**READING).connect() as connection:
            await connection.run_sync(check)
    except TablesMissing:
        async with engine.begin() as connection:
            await connection.run_sync(create)


def _revision(connection: Connection) -> int | None:
    if not inspect(connection).has_table(RevisionRow.__tablename__):
        return None
    return connection.execute(select(RevisionRow.revision)).scalar()


def _check_revision(connection: Connection) -> None:
    found = _revision(connection)
    if found is not None and found > REVISION:
        where = place_of(str(connection.engine.url))
        raise TablesNewer(
            f"the tables of jobs in the database {where} have revision {found}, and this release knows {REVISION}: "
            "upgrade this service, or restore a backup of before",
            database=where,
            revision=str(found),
        )


def defaults() -> dict[str, Any]:
    """Column defaults, spelled out for Core inserts."""
    zeros = {"attempt": 0, "failures": 0, "lease_until": 0.0, "not_before": 0.0, "last_batch": 0, "last_sequence": 0}
    times = {"pending_since": 0.0, "claim_time": 0.0, "away_since": 0.0}
    texts = {"claim_hash": "", "token_hash": "", "last_failure": "", "pending_reason": "", "pending_text": ""}
    return {**zeros, **times, **texts}
