"""Runs a process: serve until told to stop, with one clear line for what an operator can mend."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Awaitable, Callable

from anneal.kit.rpc.ports import PortTaken
from anneal.kit.settings import Misconfigured


async def wait_for_signal() -> str:
    """Wait for SIGINT, SIGTERM or, unless it is ignored as under `nohup`, SIGHUP; returns its name."""
    loop = asyncio.get_running_loop()
    told: asyncio.Future[str] = loop.create_future()

    def tell(name: str) -> None:
        if not told.done():
            told.set_result(name)

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        if number == signal.SIGHUP and signal.getsignal(number) is signal.SIG_IGN:
            continue
        loop.add_signal_handler(number, tell, number.name)
    return await told


async def run_until_signal(
    start: Callable[[], Awaitable[None]], stop: Callable[[], Awaitable[None]], ready: Callable[[], None] = lambda: None
) -> None:
    """Start, wait until the process is told to stop, stop. A start that takes long is told, too.

    Args:
        start: its failure ends this with that failure; it has then stopped what it had started.
        stop: stops what `start` started, whole or half.
        ready: called between the two.
    """
    told = asyncio.ensure_future(wait_for_signal())
    starting = asyncio.ensure_future(start())
    await asyncio.wait({told, starting}, return_when=asyncio.FIRST_COMPLETED)
    if starting.done() and starting.exception() is not None:
        told.cancel()
        starting.result()
    try:
        if starting.done():
            ready()
            await told
        else:
            starting.cancel()
            await asyncio.gather(starting, return_exceptions=True)
    finally:
        told.cancel()
        await stop()


def run_process(serve: Awaitable[None]) -> None:
    """Run it to its end; what an operator can mend becomes one line.

    Raises:
        SystemExit: it cannot serve; its text says why.
    """

    async def main() -> None:
        await serve

    try:
        asyncio.run(main())
    except PortTaken as error:
        raise SystemExit(f"anneal: {error.strerror}") from None
    except Misconfigured as error:
        raise SystemExit(f"anneal: {error}") from None
