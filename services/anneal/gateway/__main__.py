"""Run the gateway: settings, bootstrap, serve, drain."""

from __future__ import annotations

from anneal.gateway.bootstrap import GatewayProcess
from anneal.gateway.settings import Settings
from anneal.kit import logs
from anneal.kit.rpc.process import run_process, run_until_signal
from anneal.kit.settings import read_settings


def main() -> None:
    """Run it, with one clear line for what an operator can mend."""
    settings = read_settings(Settings)
    logs.configure(json_lines=settings.log_json, level=settings.log_level)
    process = GatewayProcess(settings)
    run_process(run_until_signal(process.start, process.stop))


if __name__ == "__main__":
    main()
