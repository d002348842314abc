"""`anneal run` whose deployments do not answer: one line, exit code 1, and a report that shows the failed step.

Real servers on loopback fail in every way that HTTP and gRPC have. The stages before the last one, which need every
service, are left out; `tests/e2e` runs them.
"""

from __future__ import annotations

import json
import socket
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import grpc
import pytest

from anneal.cli import __main__ as command
from anneal.cli import gateway
from anneal.cli.loop.run import Loop
from anneal.kit.errors import Busy, Missing, Refusal, TooLate
from anneal.v1.deployment_pb2 import Deployment
from tests.e2e.small_loop import small_recipe
from tests.fixtures.certificates import Authority
from tests.fixtures.faulty_servers import ERROR, TEXT, GrpcFault, HttpFault, events, grpc_server, http_server

CODES = [code for code in grpc.StatusCode if code is not grpc.StatusCode.OK]
STATUSES = [*sorted(gateway.STATUSES), 405, 418, 501, 530]
PAGE = b"<html><body><h1>Bad gateway</h1></body></html>"


@dataclass(frozen=True, slots=True)
class Ran:
    """A run that has ended."""

    code: int
    out: str
    err: str
    report: dict[str, Any]

    def failed_line(self) -> str:
        """The one line about the failure, which is the report's and that of its one failed step, too."""
        (line,) = self.err.splitlines()
        assert line.startswith("anneal: ")
        line = line.removeprefix("anneal: ")
        assert self.code == 1
        assert self.report["outcome"] == "failed"
        (step,) = [step for step in self.report["steps"] if step["state"] == "failed"]
        assert step["name"] == "ask kind"
        assert " ".join(step["detail"].split()) == step["detail"] == line == self.report["failure"]
        assert "FAILED" in self.out
        return line


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Any:
    """Runs the command on a recipe whose stages before the last one are left out."""
    name = "projects/python-docs/deployments/kind"
    deployed = {"kind": Deployment(name=name, base_model="projects/python-docs/models/m")}

    def ask_only(loop: Loop) -> None:
        loop._data.versions["kind"] = SimpleNamespace(name="projects/python-docs/datasets/kind/versions/v")  # type: ignore[assignment]
        loop._ask(deployed)

    monkeypatch.setattr(Loop, "run", ask_only)
    monkeypatch.setattr(gateway, "MAX_RETRIES", 0)
    recipe = small_recipe(tmp_path)

    def run(address: str, http: str, **environment: str) -> Ran:
        for variable, value in environment.items():
            monkeypatch.setenv(variable, value)
        places = [*(["--address", address] if address else []), *(["--http", http] if http else [])]
        words = ["anneal", *places, "run", str(recipe), "--report", str(tmp_path / "r")]
        monkeypatch.setattr("sys.argv", words)
        with pytest.raises(SystemExit) as ended:
            command.main()
        printed = capsys.readouterr()
        assert "Traceback" not in printed.err + printed.out
        code = ended.value.code if isinstance(ended.value.code, int) else 0
        report = json.loads((tmp_path / "r" / "report.json").read_text())
        assert (tmp_path / "r" / "index.html").stat().st_size > 0
        return Ran(code, printed.out, printed.err, report)

    return run


def test_a_deployment_that_answers_is_asked_in_four_ways(run: Any) -> None:
    with grpc_server(GrpcFault()) as address, http_server(HttpFault()) as url:
        ran = run(address, url)
    assert (ran.code, ran.err, ran.report["outcome"]) == (0, "", "succeeded")
    assert [answer["text"] for answer in ran.report["questions"][0]["answers"]] == [TEXT] * 4


@pytest.mark.parametrize("is_streaming", [False, True], ids=["whole", "streamed"])
@pytest.mark.parametrize("status", STATUSES)
def test_every_http_status_is_a_line(run: Any, status: int, is_streaming: bool) -> None:
    fault = HttpFault(status, json.dumps({"error": ERROR}).encode(), is_streaming=is_streaming)
    with grpc_server(GrpcFault()) as address, http_server(fault) as url:
        line = run(address, url).failed_line()
    assert line.startswith("OpenAI HTTP, streaming: " if is_streaming else "OpenAI HTTP: ")
    assert f"{url}/v1 answered {status}: the server says why (a_code)" in line
    advice = gateway.STATUSES[status][1] if status in gateway.STATUSES else gateway.CHECK_URL
    assert advice in line


@pytest.mark.parametrize("status", [404, 413, 502, 503])
def test_the_page_of_a_proxy_is_not_printed(run: Any, status: int) -> None:
    with grpc_server(GrpcFault()) as address, http_server(HttpFault(status, PAGE, "text/html")) as url:
        line = run(address, url).failed_line()
    assert f"answered {status}: " in line
    assert "a proxy answered" in line
    assert "<" not in line


def test_how_long_to_wait_is_said(run: Any) -> None:
    fault = HttpFault(429, json.dumps({"error": ERROR}).encode(), headers={"retry-after": "7"})
    with grpc_server(GrpcFault()) as address, http_server(fault) as url:
        assert run(address, url).failed_line().endswith("try again in 7 s")


@pytest.mark.parametrize(
    ("fault", "text"),
    [
        (HttpFault(200, PAGE, "text/html"), "is it an Anneal gateway?"),
        (HttpFault(200, b"{", "application/json"), "is it an Anneal gateway?"),
        (HttpFault(200, b"", "application/json"), "is it an Anneal gateway?"),
        (HttpFault(200, b'{"choices": null}'), "is it an Anneal gateway?"),
        (HttpFault(200, b'{"choices": [{}]}'), "is it an Anneal gateway?"),
        (HttpFault(200, b'["text"]'), "is it an Anneal gateway?"),
        (HttpFault(200, b'{"choices"', is_cut=True), "the connection broke"),
        (HttpFault(200, PAGE, "text/html", is_streaming=True), "no stream of events"),
        (HttpFault(200, b"data: {\n\n", "text/event-stream", is_streaming=True), "is it an Anneal gateway?"),
        (HttpFault(200, events("a", "b"), "text/event-stream", is_streaming=True, is_cut=True), None),
        (HttpFault(200, events("a")[:40], "text/event-stream", is_streaming=True, is_cut=True), "the connection broke"),
        (HttpFault(200, events("a", finish=None), "text/event-stream", is_streaming=True), "before the answer was"),
        (
            HttpFault(
                200, f"data: {json.dumps({'error': ERROR})}\n\n".encode(), "text/event-stream", is_streaming=True
            ),
            "ended with an error: the server says why (a_code)",
        ),
    ],
)
def test_what_is_no_answer_is_a_line(run: Any, fault: HttpFault, text: str | None) -> None:
    with grpc_server(GrpcFault()) as address, http_server(fault) as url:
        ran = run(address, url)
        if text is None:  # everything that belongs to the answer has come
            assert ran.code == 0
        else:
            line = ran.failed_line()
            assert text in line
            assert url in line


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.mark.parametrize(
    ("place", "text"),
    [
        ("http://127.0.0.1:{free}", "nothing listens there; start a server with `anneal up`"),
        ("127.0.0.1:{free}", "nothing listens there"),
        ("http://no-such-host.invalid", "the host's name is not known"),
        ("http://[bad", "check --http"),
        ("ftp://127.0.0.1:{free}", "check --http"),
        ("https://{grpc}", "check --http"),
    ],
)
def test_a_gateway_that_cannot_be_reached_is_a_line(run: Any, place: str, text: str) -> None:
    with grpc_server(GrpcFault()) as address:
        line = run(address, place.format(free=free_port(), grpc=address)).failed_line()
    assert text in line


def test_a_certificate_that_nobody_trusts_is_a_line_and_its_authority_is_the_way_out(run: Any, tmp_path: Path) -> None:
    authority = Authority()
    tls = authority.sign().write(tmp_path)
    (tmp_path / "ca.crt").write_bytes(authority.pem)
    with grpc_server(GrpcFault()) as address, http_server(HttpFault(), tls) as url:
        line = run(address, url).failed_line()
        assert "certificate" in line
        assert "ANNEAL_TLS__CA" in line
        with closing(gateway.Gateway(url, ca=tmp_path / "ca.crt")) as asked:
            assert asked.chat("m", [{"role": "user", "content": "What?"}], 8) == TEXT
    with pytest.raises(Refusal, match="cannot be read as certificates"):
        gateway.Gateway("https://127.0.0.1:1", ca=tls[1]).chat("m", [], 8)


@pytest.mark.parametrize("is_streaming", [False, True], ids=["whole", "streamed"])
def test_an_answer_that_does_not_come_is_not_waited_for(is_streaming: bool) -> None:
    fault = HttpFault(200, b"", delay_s=30)
    with (
        http_server(fault) as url,
        closing(gateway.Gateway(url, timeout_s=0.2, max_retries=0)) as asked,
        pytest.raises(TooLate, match=r"did not answer within 0\.2 s"),
    ):
        list(asked.stream_chat("m", [], 8) if is_streaming else asked.chat("m", [], 8))


@pytest.mark.parametrize("is_streaming", [False, True], ids=["whole", "streamed"])
@pytest.mark.parametrize("code", CODES, ids=lambda code: code.name)
def test_every_grpc_status_is_a_line(run: Any, code: grpc.StatusCode, is_streaming: bool) -> None:
    with grpc_server(GrpcFault(code, is_streaming=is_streaming)) as address, http_server(HttpFault()) as url:
        line = run(address, url).failed_line()
    assert line.startswith(f"gRPC, streaming at {address}: " if is_streaming else f"gRPC at {address}: ")
    assert "the server says why" in line
    assert "; " in line or "): " in line, "it says what to do"


def test_a_refusal_keeps_its_reason(run: Any) -> None:
    with grpc_server(GrpcFault(refusal=Busy("all is taken", retry_after_s=2.0))) as address:
        assert run(address, "127.0.0.1:1").failed_line().endswith("all is taken (RESOURCE_EXHAUSTED); try again in 2 s")
    with grpc_server(GrpcFault(refusal=Missing("there is no such deployment"))) as address:
        assert "there is no such deployment (RESOURCE_MISSING)" in run(address, "127.0.0.1:1").failed_line()


@pytest.mark.parametrize("address", ["127.0.0.1:{free}", "no-such-host.invalid:1", "not an address"])
def test_a_server_that_cannot_be_reached_is_a_line(run: Any, address: str) -> None:
    line = run(address.format(free=free_port()), "127.0.0.1:1").failed_line()
    assert line.startswith("no server answers (")
    assert line.endswith("--address or --context")


@pytest.mark.parametrize("name", ["inside", "", "another"])
def test_a_server_has_the_name_that_the_context_says(run: Any, tmp_path: Path, name: str) -> None:
    authority = Authority()
    (tmp_path / "ca.crt").write_bytes(authority.pem)
    tls = {"ca": str(tmp_path / "ca.crt"), "server_name": name}
    config = tmp_path / "config.yaml"
    pair = authority.sign(hosts=["inside"], addresses=())
    with grpc_server(GrpcFault(), pair) as address, http_server(HttpFault()) as url:
        one = {"address": address, "http": url, "tls": tls}
        config.write_text(json.dumps({"current": "c", "contexts": {"c": one}}))
        ran = run("", "", ANNEAL_CONFIG=str(config))
    if name == "inside":
        assert (ran.code, ran.err) == (0, "")
    else:
        assert "no server answers (" in ran.failed_line()
        assert "ANNEAL_TLS__CA or `anneal config set" in ran.failed_line()


@pytest.mark.parametrize("content", [b"-----BEGIN CERTIFICATE-----\nAAAA\n", b"none", None])
def test_certificates_that_cannot_be_used_are_a_line(run: Any, tmp_path: Path, content: bytes | None) -> None:
    ca = tmp_path / "ca.crt"
    if content is not None:
        ca.write_bytes(content)
    with grpc_server(GrpcFault()) as address:
        ran = run(address, "127.0.0.1:1", ANNEAL_TLS__CA=str(ca))
    assert ran.code == 1
    assert len(ran.err.splitlines()) == 1


@pytest.mark.parametrize("variable", ["ANNEAL_TOKEN", "ANNEAL_API_KEY"])
def test_a_credential_that_no_header_carries_is_a_line_without_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path, variable: str
) -> None:
    monkeypatch.setenv(variable, "sécret")
    monkeypatch.setattr("sys.argv", ["anneal", "run", str(small_recipe(tmp_path)), "--report", str(tmp_path / "r")])
    with pytest.raises(SystemExit, match="1"):
        command.main()
    (line,) = capsys.readouterr().err.splitlines()
    assert "printable ASCII" in line
    assert "cret" not in line


def test_a_run_that_is_interrupted_has_its_report(monkeypatch: pytest.MonkeyPatch, run: Any) -> None:
    def interrupted(*_: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("anneal.cli.loop.ask.Asker.__call__", interrupted)
    with grpc_server(GrpcFault()) as address:
        ran = run(address, "127.0.0.1:1")
    assert (ran.code, ran.err, ran.report["outcome"]) == (130, "anneal: stopped\n", "interrupted")
    (step,) = ran.report["steps"]
    assert (step["state"], step["detail"]) == ("failed", "interrupted")


def test_a_bug_in_a_step_has_its_report_too(monkeypatch: pytest.MonkeyPatch, run: Any, tmp_path: Path) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))

    def broken(*_: Any) -> None:
        raise KeyError("none")

    monkeypatch.setattr("anneal.cli.loop.ask.Asker.__call__", broken)
    with grpc_server(GrpcFault()) as address:
        ran = run(address, "127.0.0.1:1")
    assert (ran.code, ran.report["failure"]) == (1, "KeyError: 'none'")
    assert ran.err.startswith("anneal: this is a bug of the command: KeyError: 'none'; its trace is in ")


def test_a_report_that_cannot_be_written_hides_no_failure(
    monkeypatch: pytest.MonkeyPatch, run: Any, tmp_path: Path
) -> None:
    def full(*_: Any) -> Path:
        raise OSError(28, "No space left on device", "r/report.json")

    with grpc_server(GrpcFault(grpc.StatusCode.NOT_FOUND)) as address:
        run(address, "127.0.0.1:1")
        monkeypatch.setattr("anneal.cli.system.write", full)
        ran = run(address, "127.0.0.1:1")
    assert ran.code == 1
    (line,) = ran.err.splitlines()
    assert "No space left on device; the run failed: gRPC at" in line
