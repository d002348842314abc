"""Run the gateway: settings, bootstrap, serve, drain."""

from __future__ import annotations

import asyncio

from anneal.gateway.bootstrap import build
from anneal.gateway.settings import Settings
from anneal.kit import logs
from anneal.kit.metrics import Metrics
from anneal.kit.rpc.channels import Channels
from anneal.kit.rpc.server import PortTaken, wait_for_signal
from anneal.kit.settings import read_settings


async def serve(settings: Settings) -> None:
    """Serve until SIGINT or SIGTERM, then let running answers end."""
    logs.configure(json_lines=settings.log_json, level=settings.log_level)
    tokens = settings.bearer_tokens()
    channels = Channels(settings.addresses, tokens[0] if tokens else "")
    server = build(channels, Metrics(), settings.gateway)
    await server.start()
    logs.logger("gateway").info("serving", address=server.address)
    try:
        await wait_for_signal()
    finally:
        await server.stop()
        await channels.close()


def main() -> None:
    """Run it, with one clear line for what an operator can mend."""
    try:
        asyncio.run(serve(read_settings(Settings)))
    except PortTaken as error:
        raise SystemExit(f"anneal: {error.strerror}") from None


if __name__ == "__main__":
    main()
