"""What a process that keeps data asks of its object store and its database, at the start and from then on."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from anneal.kit.jobs import tables
from anneal.kit.rpc.readiness import Readiness
from anneal.kit.sql_faults import DatabaseUnreachable, place_of
from anneal.kit.store import Store
from anneal.kit.store_faults import StoreUnreachable

CONNECT_S = 10.0
STORE_S = 20.0
DATABASE_EVERY_S = 10.0
STORE_EVERY_S = 60.0
SUSPECT_PAUSE_S = 1.0
"""Shortest time between two questions that failing calls bring about."""


async def ask_database(engine: AsyncEngine) -> None:
    """Ask the database something.

    Raises:
        DatabaseFault: it does not answer, or not to us.
    """
    try:
        async with asyncio.timeout(CONNECT_S), engine.connect() as connection:
            await connection.execute(text("SELECT 1"))
    except TimeoutError as error:
        where = place_of(str(engine.url))
        raise DatabaseUnreachable(
            f"the database {where} does not answer within {CONNECT_S:.0f} s (ANNEAL_DATABASE_URL)", database=where
        ) from error


async def prepare_jobs(engine: AsyncEngine) -> None:
    """See that the tables of jobs are those of this release; make them where they are missing.

    Raises:
        DatabaseFault: they are those of a newer release, or cannot be made.
    """
    await ask_database(engine)
    async with asyncio.timeout(CONNECT_S):
        await tables.prepare(engine)


class StoreProbe:
    """Asks the object store, one question at a time: one that waits for its answer is not asked again meanwhile."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._asking: asyncio.Task[None] | None = None

    async def ask(self) -> None:
        """Write, read and delete an object.

        Raises:
            StoreFault: it does not answer, or does not allow that.
        """
        if self._asking is None or self._asking.done():
            self._asking = asyncio.create_task(asyncio.to_thread(self._store.probe))
            self._asking.add_done_callback(lambda task: task.cancelled() or task.exception())  # heard, whoever waits
        try:
            async with asyncio.timeout(STORE_S):
                await asyncio.shield(self._asking)
        except TimeoutError:
            url = self._store.url
            raise StoreUnreachable(
                f"the store {url} does not answer within {STORE_S:.0f} s (ANNEAL_STORE__URL, ANNEAL_STORE__OPTIONS)",
                store=url,
            ) from None


class Watch:
    """Keeps asking something that a process stands on, and takes the process out of service while that fails."""

    def __init__(
        self, readiness: Readiness, who: str, ask: Callable[[bool], Awaitable[None]], every_s: Callable[[], float]
    ) -> None:
        """Make the watch; it asks nothing before `run`.

        Args:
            readiness: what to say it to.
            who: name of what is watched.
            ask: asks it, thoroughly or not; raises `BackendFault` or `NotReady`.
            every_s: seconds between two questions.
        """
        self._readiness, self._who, self._ask, self._every_s = readiness, who, ask, every_s
        self._woken = asyncio.Event()
        self._loop = asyncio.get_running_loop()

    def suspect(self, _fault: object = None) -> None:
        """Have it asked again at once, thoroughly: a call has met a fault. From any thread."""
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._woken.set)

    async def run(self) -> None:
        """Watch until it is cancelled."""
        while True:
            thorough = False
            try:
                async with asyncio.timeout(self._every_s()):
                    await self._woken.wait()
                thorough = True
            except TimeoutError:
                pass
            await self._settle(thorough)
            if thorough:
                await asyncio.sleep(SUSPECT_PAUSE_S)
            self._woken.clear()

    async def _settle(self, thorough: bool) -> None:
        asked = 0

        async def attempt() -> None:
            nonlocal asked
            asked += 1
            await self._ask(thorough or asked > 1)

        await self._readiness.wait_for(self._who, attempt)
