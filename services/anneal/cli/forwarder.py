"""The process behind a context's port-forwards: local ports, each of whose connections leads to a ready pod.

`python -m anneal.cli.forwarder NAME` serves a context of the configuration file until it is stopped, or until nobody
has used it for `IDLE_S`. Commands start it when they need it (`forwards.py`).
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import socket
import ssl
import sys
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any

from anneal.cli import contexts, forwards, running
from anneal.cli.cluster import Cluster, ClusterDenied, PodMissing, container_port, ready_pod
from anneal.cli.contexts import Forward, Release
from anneal.kit.errors import Down, Refusal

IDLE_S = 8 * 3600.0
CONNECT_S = 20.0
"""How long a connection waits for a pod that is not ready, such as one that restarts."""
PAUSE_S = 0.5
PING_S = 30.0
STALLED_S = 60.0
"""How long half a frame is waited for."""
BUFFER_BYTES = 256 << 10
READ_BYTES = 64 << 10


class Forwarder:
    """Listens for every forward of a release."""

    def __init__(self, release: Release, make_cluster: Callable[[], Cluster], failed: Callable[[str], None]) -> None:
        """Bind the ports; nothing is served before `start`.

        Args:
            release: what is forwarded.
            make_cluster: reads the kubeconfig; called again when its credential is not taken any more.
            failed: gets the line about a connection that did not come about.
        """
        self._release, self._make_cluster, self._failed = release, make_cluster, failed
        self._cluster = make_cluster()
        self._lock = threading.Lock()
        self._open, self._last_use = 0, time.monotonic()
        self._listeners = {service: _bind(forward.local_port) for service, forward in release.forwards.items()}

    @property
    def ports(self) -> Mapping[str, int]:
        """`service -> local port`."""
        return {service: listener.getsockname()[1] for service, listener in self._listeners.items()}

    @property
    def idle_s(self) -> float:
        """Seconds since the last connection ended; 0 while there is one."""
        with self._lock:
            return 0.0 if self._open else time.monotonic() - self._last_use

    def start(self) -> None:
        """Accept connections, in threads that end with the process or with `close`."""
        for service, listener in self._listeners.items():
            forward = self._release.forwards[service]
            threading.Thread(target=self._accept, args=(listener, forward), daemon=True).start()

    def close(self) -> None:
        """Accept no more connections."""
        for listener in self._listeners.values():
            with contextlib.suppress(OSError):
                listener.shutdown(socket.SHUT_RDWR)
            listener.close()

    def _accept(self, listener: socket.socket, forward: Forward) -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(connection, forward), daemon=True).start()

    def _serve(self, connection: socket.socket, forward: Forward) -> None:
        with self._lock:
            self._open += 1
        try:
            with connection:
                bridge(connection, self._connect(forward))
        except (Refusal, OSError) as error:
            self._failed(str(error))
        finally:
            with self._lock:
                self._open, self._last_use = self._open - 1, time.monotonic()

    def _connect(self, forward: Forward) -> Any:
        """A WebSocket to a ready pod; one that is not there yet is waited for."""
        deadline, renewed = time.monotonic() + CONNECT_S, False
        while True:
            try:
                return self._connect_once(forward)
            except ClusterDenied:
                if renewed:
                    raise
                renewed, self._cluster = True, self._make_cluster()
            except (PodMissing, Down):
                if time.monotonic() > deadline:
                    raise
                time.sleep(PAUSE_S)

    def _connect_once(self, forward: Forward) -> Any:
        namespace, cluster = self._release.namespace, self._cluster
        service = cluster.get(f"/api/v1/namespaces/{namespace}/services/{forward.service}")
        (target,) = [port["targetPort"] for port in service["spec"]["ports"] if port["name"] == forward.port]
        pod = ready_pod(cluster, namespace, service["spec"]["selector"])
        return cluster.connect(namespace, pod["metadata"]["name"], container_port(pod, target))


def _bind(port: int) -> socket.socket:
    """A listener on loopback: on the given port, or on another one where somebody has that."""
    try:
        return socket.create_server(("127.0.0.1", port))
    except OSError:
        return socket.create_server(("127.0.0.1", 0))


def bridge(connection: socket.socket, websocket: Any) -> None:
    """Copy bytes both ways until one side ends, in one thread: an SSL socket must not be used by two at once.

    Channel 0 carries the data and channel 1 what went wrong; the first frame of each holds the port. Both buffers are
    bounded, so that a slow side slows the other one down.

    Raises:
        OSError: the pod's side reports an error, or a connection broke.
    """
    from websocket import WebSocketException

    try:
        _Bridge(connection, websocket).run()
    except WebSocketException as error:
        raise OSError(f"the cluster ended the connection: {error}") from None
    finally:
        websocket.shutdown()


class _Bridge:
    """The state of one forwarded connection."""

    def __init__(self, connection: socket.socket, websocket: Any) -> None:
        self._connection, self._websocket = connection, websocket
        self._remote: socket.socket = websocket.sock
        self._remote.settimeout(STALLED_S)
        self._to_pod, self._to_client = b"", b""
        self._started: set[int] = set()
        self._channel = 0
        self._last_ping = time.monotonic()

    def run(self) -> None:
        """Copy until one side ends."""
        while True:
            readable, writable = self._wait()
            if self._remote in readable and not self._receive():
                self._connection.settimeout(STALLED_S)
                self._connection.sendall(self._to_client)
                return
            if self._connection in readable:
                data = self._connection.recv(READ_BYTES)
                if not data:
                    return
                self._send(b"\0" + data, binary=True)
            if self._connection in writable:
                self._to_client = self._to_client[self._connection.send(self._to_client) :]
            if self._remote in writable:
                self._to_pod = self._to_pod[_send_now(self._remote, self._to_pod) :]
            if time.monotonic() - self._last_ping > PING_S:
                self._last_ping = time.monotonic()
                self._send(b"", binary=False)

    def _wait(self) -> tuple[list[socket.socket], list[socket.socket]]:
        """The sockets that can be read, and those that can be written; what TLS has read ahead counts."""
        reading = [self._connection] if len(self._to_pod) < BUFFER_BYTES else []
        writing = [*([self._connection] if self._to_client else []), *([self._remote] if self._to_pod else [])]
        has_room = len(self._to_client) < BUFFER_BYTES
        if has_room:
            reading.append(self._remote)
        is_read_ahead = has_room and isinstance(self._remote, ssl.SSLSocket) and self._remote.pending() > 0
        readable, writable, _ = select.select(reading, writing, [], 0.0 if is_read_ahead else PING_S)
        if is_read_ahead and self._remote not in readable:
            readable.append(self._remote)
        return readable, writable

    def _receive(self) -> bool:
        """Take one frame; False when it is the last one."""
        from websocket import ABNF

        frame = self._websocket.recv_frame()
        data: bytes = frame.data
        if frame.opcode == ABNF.OPCODE_CLOSE:
            return False
        if frame.opcode == ABNF.OPCODE_PING:
            self._to_pod += ABNF.create_frame(data, ABNF.OPCODE_PONG).format()
        if frame.opcode == ABNF.OPCODE_BINARY and data:
            self._channel, data = data[0], data[1:]
            if self._channel not in self._started:
                self._started.add(self._channel)
                return True
        if frame.opcode in (ABNF.OPCODE_BINARY, ABNF.OPCODE_CONT) and data:
            if self._channel:
                raise OSError(f"the cluster ended the connection: {data.decode(errors='replace').strip()}")
            self._to_client += data
        return True

    def _send(self, data: bytes, *, binary: bool) -> None:
        from websocket import ABNF

        self._to_pod += ABNF.create_frame(data, ABNF.OPCODE_BINARY if binary else ABNF.OPCODE_PING).format()


def _send_now(remote: socket.socket, data: bytes) -> int:
    """Send what goes at once; a send that waited for the other side could wait for ever, since that waits for us."""
    remote.settimeout(0)
    try:
        return remote.send(data)
    except (BlockingIOError, ssl.SSLWantWriteError, ssl.SSLWantReadError):
        return 0
    finally:
        remote.settimeout(STALLED_S)


def main() -> None:
    """Serve the context that the command line names."""
    name, path = sys.argv[1], contexts.config_path()
    files = forwards.Files.of(path, name)
    stopped = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stopped.set())
    try:
        release = contexts.load(path).context(name).release
        if release is None:
            raise SystemExit(f"the context {name} has no release to forward to")
        with files.lock.open("a") as lock:
            if not running.take(lock):
                return  # another command has just started one
            files.state.unlink(missing_ok=True)  # of one that was killed
            forwarder = Forwarder(release, lambda: Cluster(release.kubeconfig, release.kube_context), files.report)
            state = {"pid": os.getpid(), "ports": dict(forwarder.ports), "release": forwards.digest_of(release)}
            forwarder.start()
            contexts.write_private(files.state, json.dumps(state).encode())
            while not stopped.wait(1.0) and forwarder.idle_s < IDLE_S:
                pass
            forwarder.close()
            files.state.unlink(missing_ok=True)
    except (Refusal, OSError) as error:
        raise SystemExit(str(error)) from None


if __name__ == "__main__":
    main()
