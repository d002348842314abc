"""`anneal config from-release`: a release as the chart renders it, read over TLS, and its forwarded ports."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from anneal.cli import __main__ as command
from anneal.cli import contexts, forwards, release
from anneal.cli.cluster import Cluster
from anneal.cli.contexts import Forward, Release
from anneal.cli.forwarder import Forwarder
from anneal.cli.up import state_of
from tests.chart.rendering import NAMESPACE, RELEASE, SITUATIONS, objects, of_kind, overlay, services, situation
from tests.fixtures.release_api import ReleaseApi, release_api

pytestmark = pytest.mark.timeout(180)

START_S = 90.0
TOKEN, KEY = "tok-5f0c1d", "ak-77aa"
KEYS = json.dumps([{"name": "own", "sha256": hashlib.sha256(KEY.encode()).hexdigest(), "project": "team"}])


def api_of(values: dict[str, Any]) -> ReleaseApi:
    """A cluster with a release; the secrets that an operator or cert-manager makes are there, too."""
    api = ReleaseApi(NAMESPACE, objects(values))
    auth, tls = values.get("auth", {}), values.get("tls", {})
    if name := auth.get("existingSecret"):
        tokens = json.dumps([TOKEN, "older"])
        keys = (auth.get("tokensKey", "tokens"), auth.get("gatewayKeysKey", "gateway-keys"))
        api.put_secret(name, dict(zip(keys, (tokens, KEYS), strict=True)))
    if name := tls.get("existingSecret") or (tls.get("certManager") and f"{RELEASE}-anneal-tls"):
        pair = api.authority.sign(hosts=[f"{RELEASE}-anneal", "localhost"])
        api.put_secret(name, {"tls.crt": pair.cert, "tls.key": pair.key, "ca.crt": api.authority.pem})
    return api


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The configuration file of the test, and no kubeconfig but the test's; forwards are stopped at the end."""
    path = tmp_path / "config" / "config.yaml"
    monkeypatch.setenv("ANNEAL_CONFIG", str(path))
    monkeypatch.setenv("ANNEAL_DATA_DIR", str(tmp_path / "none"))
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "kubeconfig"))
    # The processes of port-forwards import what this one does.
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(part for part in sys.path if part))
    yield path
    if path.exists():
        for name in contexts.load(path).contexts:
            forwards.stop(path, name)


def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str, list[str]]:
    """Run the command: exit code, output, and lines of standard error."""
    monkeypatch.setattr("sys.argv", ["anneal", *words])
    with pytest.raises(SystemExit) as ended:
        command.main()
    printed = capsys.readouterr()
    assert TOKEN not in printed.out + printed.err
    assert KEY not in printed.out + printed.err
    return ended.value.code or 0, printed.out, printed.err.splitlines()  # type: ignore[return-value]


# -- what is read ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", SITUATIONS)
def test_every_address_that_services_have_is_forwarded(tmp_path: Path, name: str) -> None:
    values = situation(name)
    with release_api(api_of(values), tmp_path) as api:
        cluster = Cluster(str(api.kubeconfig(tmp_path / "kubeconfig")))
        found = release.read(cluster, NAMESPACE, RELEASE, release.Wanted(ca=False))
    pods = services(api.objects)
    called = {
        service: address.partition(":")[0]
        for pod in pods
        for service, address in json.loads(pod.env.get("ANNEAL_ADDRESSES") or "{}").items()
    }
    forwarded = {service: forward.service for service, forward in found.forwards.items() if forward.port == "grpc"}
    assert found.mode == values.get("mode", "standalone")
    if found.mode == "standalone":
        assert forwarded == {"standalone": next(iter(found.selectors))}
    else:
        assert forwarded == called
    assert found.forwards["http"].service in found.selectors
    assert found.selectors.keys() == {thing["metadata"]["name"] for thing in of_kind(api.objects, "Service")}
    if values.get("auth", {}).get("existingSecret"):
        assert (found.token, found.api_key, found.project("")) == (TOKEN, "", "team")
    else:
        assert found.takes(found.api_key)
        assert found.project(found.api_key) == "default"
        assert found.token
    assert {resource for resource, _ in api.asked} <= {"services", "deployments", "statefulsets", "secrets"}


@pytest.mark.parametrize("mutual", [False, True])
def test_certificates_are_those_that_the_services_have(tmp_path: Path, mutual: bool) -> None:
    values = {"mode": "standalone", "tls": {"existingSecret": "own-tls", "caKey": "root.pem", "mutual": mutual}}
    api = api_of({"mode": "standalone"})
    api.objects = objects(values)
    api.put_secret("own-tls", {"tls.crt": "cert", "tls.key": "key", "root.pem": "ca"})
    with release_api(api, tmp_path):
        cluster = Cluster(str(api.kubeconfig(tmp_path / "kubeconfig")))
        found = release.read(cluster, NAMESPACE, RELEASE, release.Wanted())
    assert found.tls == {"ca.crt": b"ca", **({"tls.crt": b"cert", "tls.key": b"key"} if mutual else {})}


# -- what is refused ---------------------------------------------------------------------------------------------------


Change = Callable[[ReleaseApi, Path], None]


def without(kind: str) -> Change:
    def change(api: ReleaseApi, _: Path) -> None:
        api.objects = [thing for thing in api.objects if thing["kind"] != kind]

    return change


def denied(resource: str) -> Change:
    return lambda api, _: api.denied.add(resource)


def rewritten(**changes: Any) -> Change:
    def change(api: ReleaseApi, path: Path) -> None:
        api.kubeconfig(path, **changes)

    return change


def content(text: str) -> Change:
    def change(_: ReleaseApi, path: Path) -> None:
        path.write_text(text)

    return change


@pytest.mark.parametrize(
    ("change", "words", "text"),
    [
        (lambda *_: None, [f"{NAMESPACE}/other"], f"has no release 'other' of Anneal (it has: {RELEASE})"),
        (lambda *_: None, [f"elsewhere/{RELEASE}"], "it has none; `helm list --all-namespaces`"),
        (lambda *_: None, [RELEASE], "is not NAMESPACE/RELEASE"),
        (lambda *_: None, ["a/b/c"], "is not NAMESPACE/RELEASE"),
        (lambda *_: None, [f"{NAMESPACE}/{RELEASE}", "--kube-context", "prod"], "no context 'prod' (it has: here)"),
        (lambda *_: None, [f"{NAMESPACE}/{RELEASE}", "--kubeconfig", "none"], "there is no kubeconfig at "),
        (lambda *_: None, [f"{NAMESPACE}/{RELEASE}", "--name", "local"], "cannot be changed"),
        (lambda *_: None, [f"{NAMESPACE}/{RELEASE}", "--project", "A B"], "project"),
        (denied("secrets"), [f"{NAMESPACE}/{RELEASE}"], "ask for `get` on it, or give --token-file"),
        (denied("services"), [f"{NAMESPACE}/{RELEASE}"], 'cannot get resource "services"'),
        (denied("statefulsets"), [f"{NAMESPACE}/{RELEASE}"], 'cannot get resource "statefulsets"'),
        (denied("pods"), [f"{NAMESPACE}/{RELEASE}"], 'cannot get resource "pods"'),
        (without("Secret"), [f"{NAMESPACE}/{RELEASE}"], "secrets/rel-anneal-auth: "),
        (without("StatefulSet"), [f"{NAMESPACE}/{RELEASE}"], "there is no workload rel-anneal beside the Service"),
        (rewritten(token="other"), [f"{NAMESPACE}/{RELEASE}"], "does not take the credential"),
        (rewritten(cluster={"server": "https://127.0.0.1:1"}), [f"{NAMESPACE}/{RELEASE}"], "does not answer"),
        (rewritten(cluster={"server": "https://none.invalid"}), [f"{NAMESPACE}/{RELEASE}"], "does not answer"),
        (rewritten(cluster={"certificate-authority-data": ""}), [f"{NAMESPACE}/{RELEASE}"], "certificate"),
        (content(""), [f"{NAMESPACE}/{RELEASE}"], "cannot be used"),
        (content("a: ["), [f"{NAMESPACE}/{RELEASE}"], "cannot be used"),
        (content("[]"), [f"{NAMESPACE}/{RELEASE}"], "cannot be used"),
        (content("current-context: x"), [f"{NAMESPACE}/{RELEASE}"], "cannot be used"),
    ],
)
def test_what_cannot_be_is_one_line(
    config: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    change: Change,
    words: list[str],
    text: str,
) -> None:
    api = ReleaseApi(NAMESPACE, objects({"mode": "standalone"}))
    with release_api(api, tmp_path):
        api.kubeconfig(tmp_path / "kubeconfig")
        change(api, tmp_path / "kubeconfig")
        code, _, lines = run(monkeypatch, capsys, "config", "from-release", *words)
    assert code in (1, 2)
    (line,) = lines
    assert text in line
    assert "bug" not in line


def test_what_the_user_gives_is_not_asked_of_the_cluster(
    config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "token").write_text(TOKEN)
    (tmp_path / "key").write_text(KEY)
    api = api_of(situation("distributed-cpu"))
    api.denied.add("secrets")
    api.unready.add(f"{RELEASE}-anneal-curation")
    with release_api(api, tmp_path):
        api.kubeconfig(tmp_path / "kubeconfig")
        given = ["--token-file", str(tmp_path / "token"), "--api-key-file", str(tmp_path / "key"), "--project", "p"]
        words = [f"{NAMESPACE}/{RELEASE}", *given, "--timeout", "0", "--name", "c"]
        code, out, (line,) = run(monkeypatch, capsys, "config", "from-release", *words)
    assert code == 1
    assert "waits for a node: 0/1 nodes are available: 1 Insufficient cpu." in line
    assert "8 services, 1 base models, without TLS" in out
    made = contexts.load(config)
    assert made.current == "c"
    assert (made.contexts["c"].secret("token"), made.contexts["c"].secret("api_key")) == (TOKEN, KEY)
    assert made.contexts["c"].project == "p"
    ports = [forward.local_port for forward in made.contexts["c"].release.forwards.values()]  # type: ignore[union-attr]
    assert len(set(ports)) == len(ports) == 9
    assert all(ports)


def test_servers_of_a_base_model_that_is_not_imported_are_not_waited_for(
    config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    api = api_of(situation("distributed-cpu"))
    api.unready.add(f"{RELEASE}-anneal-serving-tiny")
    with release_api(api, tmp_path):
        api.kubeconfig(tmp_path / "kubeconfig")
        code, out, (line,) = run(monkeypatch, capsys, "config", "from-release", f"{NAMESPACE}/{RELEASE}")
    assert "not ready yet, as before its base model is imported: no pod with" in out
    assert (code, "failed to connect to localhost:50051" in line) == (1, True), "this stand-in has nothing behind it"


# -- what is forwarded -------------------------------------------------------------------------------------------------


@contextmanager
def echo_server() -> Iterator[int]:
    """A server that sends back what it gets, each byte once; its port."""
    listener = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            threading.Thread(target=echo, args=(connection,), daemon=True).start()

    def echo(connection: socket.socket) -> None:
        with connection:
            while data := connection.recv(65536):
                connection.sendall(data)

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    try:
        yield listener.getsockname()[1]
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        thread.join(5)


@pytest.fixture
def forwarded(tmp_path: Path) -> Iterator[tuple[ReleaseApi, Forwarder, list[str]]]:
    """A forwarder of the one pod of `standalone`, and what it says of connections that failed."""
    api = ReleaseApi(NAMESPACE, objects({"mode": "standalone"}))
    with release_api(api, tmp_path):
        kubeconfig = str(api.kubeconfig(tmp_path / "kubeconfig"))
        wanted = Release(
            kubeconfig=kubeconfig,
            kube_context="here",
            namespace=NAMESPACE,
            name=RELEASE,
            forwards={"standalone": Forward(service=f"{RELEASE}-anneal", port="grpc")},
        )
        failures: list[str] = []
        forwarder = Forwarder(wanted, lambda: Cluster(kubeconfig), failures.append)
        forwarder.start()
        yield api, forwarder, failures
        forwarder.close()


def test_bytes_go_through_both_ways_whole_and_at_once(forwarded: Any) -> None:
    api, forwarder, failures = forwarded
    blocks = [os.urandom(1 << 20) * 6 for _ in range(4)]

    def send(block: bytes) -> bool:
        with socket.create_connection(("127.0.0.1", forwarder.ports["standalone"])) as connection:
            connection.settimeout(60)
            sender = threading.Thread(target=connection.sendall, args=(block,))
            sender.start()
            received = bytearray()
            while len(received) < len(block):
                received += connection.recv(1 << 20)
            sender.join()
        return bytes(received) == block

    with echo_server() as port:
        api.backends[f"{RELEASE}-anneal", 50051] = port
        with ThreadPoolExecutor(4) as pool:
            assert list(pool.map(send, blocks)) == [True] * 4
    assert failures == []


def connected(port: int) -> bytes:
    """What comes from a connection that sends one byte, until it ends."""
    with socket.create_connection(("127.0.0.1", port)) as connection:
        connection.settimeout(30)
        connection.sendall(b"x")
        try:
            return connection.recv(10)
        except ConnectionError:
            return b""


def until(is_so: Callable[[], object], seconds: float = 30.0) -> None:
    deadline = time.monotonic() + seconds
    while not is_so():
        assert time.monotonic() < deadline, "it never came to pass"
        time.sleep(0.02)


def test_a_connection_that_does_not_come_about_ends_and_says_why(
    forwarded: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("anneal.cli.forwarder.CONNECT_S", 0.2)
    api, forwarder, failures = forwarded
    port = forwarder.ports["standalone"]
    assert connected(port) == b""
    until(lambda: failures)
    assert "failed to connect to localhost:50051" in failures.pop()
    api.unready.add(f"{RELEASE}-anneal")
    assert connected(port) == b""
    until(lambda: failures)
    assert "waits for a node: 0/1 nodes are available" in failures.pop()
    api.unready.clear()
    api.denied.add("pods/portforward")
    assert connected(port) == b""
    until(lambda: failures)
    assert 'cannot get resource "pods/portforward"' in failures.pop()


def test_a_pod_that_restarts_and_a_credential_that_is_renewed_are_waited_for(forwarded: Any) -> None:
    api, forwarder, failures = forwarded
    api.unready.add(f"{RELEASE}-anneal")
    with echo_server() as port, ThreadPoolExecutor(1) as pool:
        api.backends[f"{RELEASE}-anneal", 50051] = port
        waiting = pool.submit(connected, forwarder.ports["standalone"])
        until(lambda: ("pods", "") in api.asked)
        api.unready.clear()
        assert waiting.result() == b"x"
        api.token = "renewed"
        api.kubeconfig(Path(forwarder._release.kubeconfig))
        assert connected(forwarder.ports["standalone"]) == b"x"
        with socket.create_connection(("127.0.0.1", forwarder.ports["standalone"])):
            until(lambda: forwarder.idle_s == 0)
        until(lambda: forwarder.idle_s > 0)
    assert failures == []


# -- the whole way -----------------------------------------------------------------------------------------------------


@contextmanager
def standalone(folder: Path, api: ReleaseApi) -> Iterator[None]:
    """A real `anneal up` with a token, a key and mutual TLS, which is the release's one pod."""
    folder.mkdir()
    pair = api.authority.sign(hosts=[f"{RELEASE}-anneal", "localhost"])
    cert, key = pair.write(folder)
    (folder / "ca.crt").write_bytes(api.authority.pem)
    environment = {
        **os.environ,
        "ANNEAL_TOKENS": json.dumps([TOKEN]),
        "ANNEAL_GATEWAY__KEYS": KEYS,
        "ANNEAL_TLS__CERT": str(cert),
        "ANNEAL_TLS__KEY": str(key),
        "ANNEAL_TLS__CA": str(folder / "ca.crt"),
        "ANNEAL_TLS__MUTUAL": "true",
    }
    words = ["up", "--data-dir", str(folder), "--grpc-port", "0", "--http-port", "0"]
    with (folder / "up.log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "anneal.cli", *words],
            stdout=log,
            stderr=log,
            env=environment,
            start_new_session=True,
        )
    try:
        until(lambda: state_of(folder) or process.poll() is not None, START_S)
        state = state_of(folder)
        assert state is not None, (folder / "up.log").read_text()
        for port, name in ((50051, "grpc"), (8080, "http")):
            api.backends[f"{RELEASE}-anneal", port] = int(state[name].rsplit(":", 1)[1])
        yield
    finally:
        process.send_signal(signal.SIGINT)
        process.wait(60)


def test_the_second_command_after_helm_install_works_and_so_does_every_later_one(
    config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    own = {"auth": {"existingSecret": "own-auth"}, "tls": {"existingSecret": "own-tls", "mutual": True}}
    api = api_of(overlay(situation("standalone-throwaway"), own))
    name = f"{NAMESPACE}/{RELEASE}"

    def anneal(*words: str) -> tuple[int, str, list[str]]:
        return run(monkeypatch, capsys, *words)

    with release_api(api, tmp_path), standalone(tmp_path / "pod", api):
        api.kubeconfig(tmp_path / "kubeconfig")
        code, out, lines = anneal("config", "from-release", name)
        assert (code, lines) == (0, []), lines
        assert "one pod, with TLS" in out
        assert "only hashes of the gateway's keys" in out
        assert "project   team" in out

        (tmp_path / "key").write_text(KEY)
        assert anneal("config", "set", name, "--api-key-file", str(tmp_path / "key"))[0] == 0
        assert anneal("deployments", "list") == (0, "", [])
        from openai import OpenAI

        files = forwards.Files.of(config, name)
        state = files.running()
        assert state is not None
        with OpenAI(base_url=f"http://127.0.0.1:{state['ports']['http']}/v1", api_key=KEY) as client:
            assert list(client.models.list()) == []

        os.kill(state["pid"], signal.SIGKILL)
        until(lambda: files.running() is None)
        assert anneal("deployments", "list") == (0, "", []), "the port-forwards start again by themselves"
        again = files.running()
        assert again is not None
        assert again["ports"] == state["ports"], "where apps have been pointed at"
        assert anneal("deployments", "list")[0] == 0
        assert files.running() == again, "and are not started twice"

        api.denied.add("pods/portforward")
        code, _, (line,) = anneal("deployments", "list")
        assert code == 1
        assert "the port-forward: context here of " in line
        assert 'cannot get resource "pods/portforward"' in line
        api.denied.clear()

        assert anneal("config", "stop")[1] == f"the port-forwards of {name} are stopped\n"
        assert files.running() is None
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", state["ports"]["http"]))
            taken.listen()
            assert anneal("deployments", "list")[0] == 0
            moved = files.running()
            assert moved is not None
            assert moved["ports"]["http"] != state["ports"]["http"], "a port that another has is not trusted"
        assert anneal("config", "delete", name)[0] == 0
        assert files.running() is None
        assert [file for file in files.lock.parent.iterdir() if file.suffix != ".lock"] == []
