"""The registry's database: reading, and changing in transactions that race safely."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any, TypeVar

from sqlalchemy import delete, select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession

from anneal.registry.adapters.sql.engine import WRITING
from anneal.registry.adapters.sql.tables import OutboxTable
from anneal.registry.adapters.sql.transactions import Reader, Writer

T = TypeVar("T")
_ATTEMPTS = 8


class Catalog:
    """Everything named, in one database.

    Every change leaves its self-description in an outbox, in the same transaction; `flush` hands them over.
    """

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine
        self._writing = engine.execution_options(**{WRITING: True})
        self._flushing = asyncio.Lock()

    async def close(self) -> None:
        """Let go of every connection."""
        await self._engine.dispose()

    @asynccontextmanager
    async def read(self) -> AsyncIterator[Reader]:
        """A transaction that only reads."""
        async with AsyncSession(self._engine) as session:
            yield Reader(session)

    async def change(self, unit: Callable[[Writer], Awaitable[T]], *, dry: bool = False) -> T:
        """Run `unit` in one transaction.

        When somebody else takes a name at the same moment, the whole unit runs again and meets what they wrote.

        Args:
            unit: what to do; it may run several times.
            dry: undo everything at the end.
        """
        for attempt in range(1, _ATTEMPTS + 1):
            try:
                async with AsyncSession(self._writing) as session, session.begin() as transaction:
                    result = await unit(Writer(session))
                    if dry:
                        await transaction.rollback()
                    return result
            except IntegrityError:
                if attempt == _ATTEMPTS:
                    raise
        raise AssertionError("unreachable: the last attempt returns or raises")

    async def flush(self, hand_over: Callable[[str, Any], Awaitable[None]]) -> None:
        """Hand over every waiting self-description, oldest first, and forget it once it was taken."""
        async with self._flushing:
            async with AsyncSession(self._engine) as session:
                waiting = list(await session.scalars(select(OutboxTable).order_by(OutboxTable.id)))
            for row in waiting:
                await hand_over(row.path, json.loads(row.value))
            if waiting:
                async with AsyncSession(self._writing) as session, session.begin():
                    await session.execute(delete(OutboxTable).where(OutboxTable.id.in_([row.id for row in waiting])))
