"""A host that fails while it starts leaves nothing behind."""

from __future__ import annotations

import socket
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from anneal.kit.options import GrpcOptions, LauncherOptions, MetricsOptions
from anneal.kit.rpc.ports import PortTaken
from anneal.kit.rpc.server import Host
from anneal.kit.runtime import Runtime, Service
from anneal.kit.settings import Misconfigured, ServiceSettings


@pytest.fixture
def taken() -> Iterator[int]:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        yield listening.getsockname()[1]


class Parts:
    """Services that write down what happens to them; one of them may fail."""

    def __init__(self, fails: str = "") -> None:
        self.seen: list[str] = []
        self._fails = fails

    def builds(self, *names: str) -> list[object]:
        return [self._build(name) for name in names]

    def _build(self, name: str) -> object:
        async def start() -> None:
            self.seen.append(f"{name} starts")
            if name == self._fails:
                raise RuntimeError("it does not start")

        async def stop() -> None:
            self.seen.append(f"{name} stops")

        def build(_runtime: Runtime) -> Service:
            return Service(name=name, add=lambda _server: None, grpc_services=(), start=start, stop=stop)

        return build


def is_free(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) != 0


async def test_a_start_that_fails_stops_what_it_has_started(tmp_path: Path) -> None:
    parts = Parts(fails="second")
    settings = ServiceSettings(data_dir=tmp_path, metrics=MetricsOptions(port=0))
    host = Host(settings, parts.builds("first", "second", "third"))  # type: ignore[arg-type]
    with pytest.raises(RuntimeError, match="it does not start"):
        await host.start()
    assert parts.seen == ["first starts", "second starts", "third stops", "second stops", "first stops"]
    assert is_free(host.port)
    assert host.metrics_port is not None
    assert is_free(host.metrics_port)
    await host.stop()  # once more harms nothing
    assert len(parts.seen) == 5


async def test_a_taken_metrics_port_is_found_before_anything_starts(tmp_path: Path, taken: int) -> None:
    parts = Parts()
    settings = ServiceSettings(data_dir=tmp_path, metrics=MetricsOptions(port=taken))
    host = Host(settings, parts.builds("only"))  # type: ignore[arg-type]
    with pytest.raises(PortTaken, match=f"cannot serve metrics on 127.0.0.1:{taken}"):
        await host.start()
    assert parts.seen == []
    assert host.port == 0


async def test_a_taken_port_is_named(tmp_path: Path, taken: int) -> None:
    host = Host(ServiceSettings(data_dir=tmp_path, grpc=GrpcOptions(port=taken)), [])
    with pytest.raises(PortTaken, match=f"cannot listen on 127.0.0.1:{taken}: the port is taken"):
        await host.start()


async def test_a_data_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    host = Host(ServiceSettings(data_dir=tmp_path / "file" / "data"), [])
    with pytest.raises(Misconfigured, match=r"^ANNEAL_DATA_DIR: cannot write to .*/data: Not a directory$"):
        await host.start()


async def test_a_launcher_whose_client_is_not_installed_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As in the images of the registry, of serving and of the gateway, which start no jobs."""
    monkeypatch.setitem(sys.modules, "kubernetes", None)
    for name in ("client", "launcher", "watch", "deletions"):
        monkeypatch.delitem(sys.modules, f"anneal.kit.jobs.kubernetes.{name}", raising=False)
    launcher = LauncherOptions.model_construct(kind="kubernetes")
    settings = ServiceSettings(data_dir=tmp_path).model_copy(update={"launcher": launcher})
    host = Host(settings, [])
    with pytest.raises(Misconfigured, match=r"^ANNEAL_LAUNCHER__KIND is kubernetes, .* kubernetes is not installed: "):
        await host.start()
