"""What the `__main__` of a gRPC service calls.

Apart from `process`, because the gateway is no gRPC server and is installed without what one needs.
"""

from __future__ import annotations

from anneal.kit import logs
from anneal.kit.rpc.process import run_process, run_until_signal
from anneal.kit.rpc.server import Build, Host
from anneal.kit.settings import ServiceSettings


def main(settings: ServiceSettings, build: Build) -> None:
    """Serve one service until the process is told to stop; metrics and probes are always served.

    Raises:
        SystemExit: it cannot serve; its text says why.
    """
    if settings.metrics.port is None:
        metrics = settings.metrics.model_copy(update={"port": 0})
        settings = settings.model_copy(update={"metrics": metrics})
    logs.configure(json_lines=settings.log_json, level=settings.log_level)
    host = Host(settings, [build])
    run_process(run_until_signal(host.start, host.stop))
