"""uvicorn inside somebody else's event loop: bound before it starts, stopped when told to."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import socket
from collections.abc import Iterator

import uvicorn
from fastapi import FastAPI

from anneal.kit.rpc.ports import PortTaken


class _QuietServer(uvicorn.Server):
    """A server that leaves signals to the process it runs in."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


class HttpServer:
    """An application on a port."""

    def __init__(self, app: FastAPI, *, host: str, port: int, drain_s: int) -> None:
        """Bind; nothing is served before `start`.

        Raises:
            PortTaken: the address is in use or not ours.
        """
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self._socket = socket.socket(family)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            self._socket.bind((host, port))
        except OSError:
            self._socket.close()
            raise PortTaken(
                errno.EADDRINUSE, f"cannot listen on {host}:{port}: the port is taken or the address is not ours"
            ) from None
        self.address = f"{host}:{self._socket.getsockname()[1]}"
        config = uvicorn.Config(
            app, log_config=None, access_log=False, timeout_graceful_shutdown=drain_s, lifespan="off", ws="none"
        )
        self._server = _QuietServer(config)
        self._serving: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Serve, and return once requests are answered."""
        self._serving = asyncio.create_task(self._server.serve(sockets=[self._socket]))
        while not self._server.started:
            if self._serving.done():
                self._serving.result()
                raise RuntimeError("the HTTP server ended while it started")
            await asyncio.sleep(0.01)

    async def stop(self) -> None:
        """Let running answers end, within the drain time."""
        self._server.should_exit = True
        if self._serving is not None:
            await self._serving
        self._socket.close()
