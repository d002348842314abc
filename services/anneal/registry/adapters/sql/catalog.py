"""The registry's database: reading, and changing in transactions that race safely."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any, TypeVar

from sqlalchemy import delete, select, tuple_
from sqlalchemy.exc import DBAPIError, IntegrityError
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession

from anneal.kit.sql import READING, is_sqlite, open_engine
from anneal.kit.sql_faults import DatabaseFault, TablesMissing
from anneal.registry.adapters.sql.migrate import check, migrate
from anneal.registry.adapters.sql.tables import OutboxTable
from anneal.registry.adapters.sql.transactions import Reader, Writer

T = TypeVar("T")
SNAPSHOT = "REPEATABLE READ"
_ATTEMPTS = 8
_LOST_RACES = {"40001", "40P01"}
"""SQLSTATE of a serialization failure and of a deadlock: the transaction did nothing and may run again."""


def _is_lost_race(error: DBAPIError) -> bool:
    return isinstance(error, IntegrityError) or getattr(error.orig, "sqlstate", None) in _LOST_RACES


class Catalog:
    """Everything named, in one database.

    Every change leaves its self-description in an outbox, in the same transaction; `flush` hands them over.
    """

    def __init__(
        self, url: str, *, migrates: bool = True, on_fault: Callable[[DatabaseFault], None] = lambda _: None
    ) -> None:
        """Name the database; nothing is opened before it is used.

        Args:
            url: `sqlite+aiosqlite:///file.db` or `postgresql+asyncpg://user:password@host/database`.
            migrates: bring its tables up to date before the first use; else they must be so.
            on_fault: called with each refusal of the database.
        """
        self._on_fault = on_fault
        self._writing = open_engine(url, on_fault=self._heard)
        self._reading = self._writing.execution_options(**READING)
        self._founding = self._writing.execution_options(**({} if is_sqlite(url) else {"isolation_level": SNAPSHOT}))
        self._flushing = asyncio.Lock()
        self._preparing = asyncio.Lock()
        self._migrates = migrates
        self._is_prepared = False

    def _heard(self, fault: DatabaseFault) -> None:
        """See to the tables again before the next use: they may be others when the database is back."""
        self._is_prepared = False
        self._on_fault(fault)

    async def prepare(self) -> None:
        """Bring the tables up to date, once. A request that comes before the start has ended waits here.

        Raises:
            DatabaseFault: they are not those of this release, and nobody or somebody else is to bring them there.
        """
        async with self._preparing:
            if self._is_prepared:
                return
            try:
                await check(self._writing)
            except TablesMissing:
                if not self._migrates:
                    raise
                await migrate(self._writing)
                await check(self._writing)
            self._is_prepared = True

    async def check(self) -> None:
        """See to the tables again, as `prepare` did.

        Raises:
            DatabaseFault: they are not those of this release.
        """
        self._is_prepared = False
        await self.prepare()

    async def close(self) -> None:
        """Let go of every connection."""
        await self._writing.dispose()

    @asynccontextmanager
    async def read(self) -> AsyncIterator[Reader]:
        """A transaction that only reads."""
        await self.prepare()
        async with AsyncSession(self._reading) as session:
            yield Reader(session)

    async def create(self, unit: Callable[[Writer], Awaitable[T]], *, dry: bool = False) -> T:
        """Run `unit` in one transaction that sees the database as it was at one moment.

        When somebody else takes a name at the same moment, the whole unit runs again and meets what they wrote: the
        same request, the same content, or a name that is taken, and never one half of it.

        Args:
            unit: what to do; it may run several times.
            dry: undo everything at the end.
        """
        return await self._run(self._founding, unit, dry)

    async def change(self, unit: Callable[[Writer], Awaitable[T]], *, dry: bool = False) -> T:
        """Run `unit` in one transaction that waits for others to change what it reads `for_update`.

        Args:
            unit: what to do; it may run several times.
            dry: undo everything at the end.
        """
        return await self._run(self._writing, unit, dry)

    async def _run(self, engine: AsyncEngine, unit: Callable[[Writer], Awaitable[T]], dry: bool) -> T:
        await self.prepare()
        for attempt in range(1, _ATTEMPTS + 1):
            try:
                async with AsyncSession(engine) as session, session.begin() as transaction:
                    result = await unit(Writer(session))
                    if dry:
                        await transaction.rollback()
                    return result
            except DBAPIError as error:
                if attempt == _ATTEMPTS or not _is_lost_race(error):
                    raise
        raise AssertionError("unreachable: the last attempt returns or raises")

    async def flush(self, hand_over: Callable[[str, Any], Awaitable[None]]) -> None:
        """Hand over every waiting self-description, oldest first, and forget it once it was taken.

        Forgotten is what has both the id and the path of what was taken: another registry may have handed the same over
        and forgotten it first, and SQLite gives a free id to the next change.
        """
        await self.prepare()
        async with self._flushing:
            async with AsyncSession(self._reading) as session:
                waiting = list(await session.scalars(select(OutboxTable).order_by(OutboxTable.id)))
            for row in waiting:
                await hand_over(row.path, json.loads(row.value))
            if waiting:
                taken = tuple_(OutboxTable.id, OutboxTable.path).in_([(row.id, row.path) for row in waiting])
                async with AsyncSession(self._writing) as session, session.begin():
                    await session.execute(delete(OutboxTable).where(taken))
