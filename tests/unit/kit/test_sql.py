"""A SQLite file is opened by many at once."""

from __future__ import annotations

import asyncio
from pathlib import Path

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from anneal.kit.sql import open_engine


async def test_a_new_file_may_be_opened_by_many_at_once(tmp_path: Path) -> None:
    async def write(engine: AsyncEngine) -> None:
        async with engine.begin() as connection:
            await connection.execute(text("CREATE TABLE IF NOT EXISTS t (a INTEGER)"))
            await connection.execute(text("INSERT INTO t VALUES (1)"))

    for number in range(10):
        engines = [open_engine(f"sqlite+aiosqlite:///{tmp_path}/{number}.db") for _ in range(6)]
        await asyncio.gather(*(write(engine) for engine in engines))
        async with engines[0].connect() as connection:
            assert await connection.scalar(text("SELECT count(*) FROM t")) == 6
        for engine in engines:
            await engine.dispose()


async def test_a_caller_that_goes_away_leaves_no_lock(tmp_path: Path) -> None:
    engine = open_engine(f"sqlite+aiosqlite:///{tmp_path}/one.db")
    async with engine.begin() as connection:
        await connection.execute(text("CREATE TABLE t (a INTEGER)"))

    async def write() -> None:
        async with engine.begin() as connection:
            await connection.execute(text("SELECT a FROM t"))
            await connection.execute(text("INSERT INTO t VALUES (1)"))
            await connection.execute(text("SELECT count(*) FROM t"))

    for number in range(40):
        callers = [asyncio.create_task(write()) for _ in range(8)]
        await asyncio.sleep(number / 4000)
        for caller in callers:
            caller.cancel()
        await asyncio.gather(*callers, return_exceptions=True)
        async with asyncio.timeout(10):
            await write()
    await engine.dispose()
