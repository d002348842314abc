"""Bring the database's tables up to date: `python -m anneal.registry.migrate`. It may run twice, and two at once."""

from __future__ import annotations

import asyncio

from anneal.kit import logs
from anneal.kit.errors import BackendFault
from anneal.kit.jobs import tables
from anneal.kit.rpc.probes import ask_database
from anneal.kit.rpc.process import run_process
from anneal.kit.rpc.readiness import Readiness
from anneal.kit.settings import read_settings
from anneal.kit.sql import open_engine
from anneal.registry.adapters.sql.migrate import migrate
from anneal.registry.settings import Settings

PATIENCE_S = 120.0
"""How long a database that does not answer is waited for."""


async def bring_up_to_date(settings: Settings, *, patience_s: float = PATIENCE_S) -> None:
    """Create or change the registry's tables and those of every service's jobs.

    Raises:
        SystemExit: the database does not answer, does not let the account change its tables, or has newer ones.
    """
    log = logs.logger("migrate")
    readiness = Readiness()
    for name in ("registry", "jobs"):
        engine = open_engine(settings.sql_url(name))
        try:
            async with asyncio.timeout(patience_s):
                await readiness.wait_for("database", lambda: ask_database(engine))  # noqa: B023 - called at once
            if name == "registry":
                await migrate(engine)
            else:
                async with engine.begin() as connection:
                    await connection.run_sync(tables.create)
        except BackendFault as fault:
            raise SystemExit(f"anneal: {fault}") from None
        except TimeoutError:
            raise SystemExit(f"anneal: {readiness.reasons[-1]}; gave up after {patience_s:.0f} s") from None
        finally:
            await engine.dispose()
        log.info("up to date", tables=name)


def main() -> None:
    """Run it, with one clear line for what an operator can mend."""
    settings = read_settings(Settings)
    logs.configure(json_lines=settings.log_json, level=settings.log_level)
    run_process(bring_up_to_date(settings))


if __name__ == "__main__":
    main()
