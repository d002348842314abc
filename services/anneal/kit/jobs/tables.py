"""The job store's tables."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Connection, Float, ForeignKey, Index, Integer, LargeBinary, String, inspect
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column
from sqlalchemy.schema import CreateColumn

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


def create(connection: Connection) -> None:
    """Create the tables that are missing, and the columns that tables of an earlier release lack.

    A column added here must have a `server_default`: its value in the rows that exist.
    """
    if connection.dialect.name == "postgresql":  # servers that share it may start at once; SQLite locks by itself
        connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({_LOCK})")
    Base.metadata.create_all(connection)
    for table in Base.metadata.sorted_tables:
        known = {column["name"] for column in inspect(connection).get_columns(table.name)}
        for column in table.columns:
            if column.name not in known:
                definition = CreateColumn(column).compile(dialect=connection.dialect)
                connection.exec_driver_sql(f"ALTER TABLE {table.name} ADD COLUMN {definition}")


def defaults() -> dict[str, Any]:
    """Column defaults, spelled out for Core inserts."""
    zeros = {"attempt": 0, "failures": 0, "lease_until": 0.0, "not_before": 0.0, "last_batch": 0, "last_sequence": 0}
    return {**zeros, "claim_hash": "", "token_hash": "", "last_failure": ""}
