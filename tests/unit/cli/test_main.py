"""What a person reads when a command line is wrong: one line, and an exit code a script can use."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from google.longrunning import operations_pb2
from google.protobuf import json_format
from typer.exceptions import TyperException

from anneal.cli import __main__ as command
from anneal.cli.client import OperationFailed
from anneal.cli.gateway import GatewayUnreachable
from anneal.cli.loop.deployments import GateLeaked
from anneal.cli.loop.desk import LoopFailed
from anneal.cli.loop.recipe import RecipeUnreadable
from anneal.cli.system import shown
from anneal.cli.up import CannotStart
from anneal.kit.errors import Invalid, Missing
from anneal.kit.rpc.status import internal_status
from anneal.kit.settings import Misconfigured


def run(monkeypatch: pytest.MonkeyPatch, *words: str) -> int:
    monkeypatch.setattr("sys.argv", ["anneal", *words])
    with pytest.raises(SystemExit) as ended:
        command.main()
    return ended.value.code if isinstance(ended.value.code, int) else 0


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["bogus"], "anneal: No such command 'bogus'.\n"),
        (["chat"], "anneal: Missing argument 'deployment'.\n"),
        (["jobs", "list", "--nope"], "anneal: No such option: --nope\n"),
        (
            ["run", "none.yaml"],
            "anneal: Invalid value for 'recipe': file 'none.yaml' does not exist.\n",
        ),
    ],
)
def test_a_wrong_command_line_gets_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], words: list[str], line: str
) -> None:
    assert run(monkeypatch, *words) == 2
    assert capsys.readouterr().err == line


TORN = "first\nsecond\r\n\n  third"
BROKEN = operations_pb2.Operation(name="projects/p/operations/o", done=True)
BROKEN.error.CopyFrom(internal_status(TORN))


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (json_format.ParseError(TORN), "first second third"),
        (LoopFailed(TORN), "first second third"),
        (CannotStart(TORN), "first second third"),
        (RecipeUnreadable(TORN), "first second third"),
        (Missing(TORN), "first second third (RESOURCE_MISSING)"),
        (Invalid(TORN, violations=[("a", TORN)]), "first second third; a: first second third (INVALID_REQUEST)"),
        (OperationFailed(BROKEN), "projects/p/operations/o failed: first second third (its log is under logs/o)"),
        (OSError(5, TORN, "a\nb"), "first second third: a b"),
        (Misconfigured(TORN), "first second third"),
        (GateLeaked(TORN), "first second third"),
        (GatewayUnreachable(TORN), "first second third (GATEWAY_UNREACHABLE); try again in 5 s"),
        (
            UnicodeDecodeError("utf-8", b"\xff", 0, 1, TORN),
            "UnicodeDecodeError: 'utf-8' codec can't decode byte 0xff in position 0: first second third",
        ),
        (TyperException(TORN), "first second third"),
    ],
)
def test_every_error_is_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], error: Exception, expected: str
) -> None:
    def fail() -> None:
        raise error

    monkeypatch.setattr("typer.core.TyperGroup.invoke", lambda *_: fail())
    assert run(monkeypatch, "jobs", "list") in (1, 2)
    assert capsys.readouterr().err == f"anneal: {expected}\n"


@pytest.mark.parametrize(
    "error",
    [KeyError("name"), TypeError(TORN), AttributeError(TORN), RecursionError(TORN), AssertionError(TORN), IndexError()],
)
def test_a_bug_is_one_line_too_and_its_trace_is_in_a_file(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path, error: Exception
) -> None:
    def fail() -> None:
        raise error

    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.setattr("typer.core.TyperGroup.invoke", lambda *_: fail())
    assert run(monkeypatch, "jobs", "list") == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"anneal: this is a bug of the command: {type(error).__name__}")
    (trace,) = tmp_path.iterdir()
    assert line.endswith(f"its trace is in {trace}")
    assert "Traceback" in trace.read_text()


@pytest.mark.parametrize(
    "text",
    ["", "[]", "{", "\x00", "- a", "title: [", "title: {a: b", "a: b: c", "!!python/object:os.system {}", "\ud800"],
)
def test_every_file_that_is_no_recipe_and_no_message_is_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path, text: str
) -> None:
    file = tmp_path / "file.yaml"
    file.write_bytes(text.encode("utf-8", "surrogatepass"))
    for words in (["run", str(file)], ["plan", "rows", "--base-model", "m", "--spec", str(file)]):
        assert run(monkeypatch, *words) in (1, 2)
        (line,) = capsys.readouterr().err.splitlines()
        assert "bug" not in line


def test_what_protobuf_says_of_a_file_is_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    spec = tmp_path / "spec.yaml"
    spec.write_text("lora: {rank: many}")
    assert run(monkeypatch, "plan", "rows", "--base-model", "m", "--spec", str(spec)) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "spec.yaml" in line
    assert "rank" in line


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["jobs", "list"], ["jobs", "list"]),
        (["jobs", "list", "--json"], ["--json", "jobs", "list"]),
        (["--json", "jobs", "list", "--json"], ["--json", "jobs", "list"]),
        (["chat", "bot", "--", "--json"], ["chat", "bot", "--", "--json"]),
        (["chat", "bot", "--json", "--", "--json"], ["--json", "chat", "bot", "--", "--json"]),
        ([], []),
    ],
)
def test_json_is_an_option_anywhere_but_behind_the_double_dash(words: list[str], expected: list[str]) -> None:
    assert command._json_first(words) == expected


def test_a_reader_that_has_enough_hears_nothing_more() -> None:
    path = os.pathsep.join(part for part in sys.path if part)
    command = [sys.executable, "-m", "anneal.cli", "config", "list"]
    environment = {**os.environ, "PYTHONPATH": path}
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        assert process.stderr.read() == b""
    assert process.returncode == 1


def test_help_is_no_error(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(monkeypatch, "--help") == 0
    assert capsys.readouterr().err == ""


def test_an_interrupted_command_says_so(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def interrupted() -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("typer.core.TyperGroup.invoke", lambda *_: interrupted())
    assert run(monkeypatch, "jobs", "list") == 130
    assert capsys.readouterr().err == "anneal: stopped\n"


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["--token", "secret", "run", "r.yaml"], "anneal --token ... run r.yaml"),
        (["--api-key=secret", "run", "--report", "my report"], "anneal --api-key=... run --report 'my report'"),
        (["run", "r.yaml"], "anneal run r.yaml"),
    ],
)
def test_a_report_shows_the_command_without_its_secrets(words: list[str], expected: str) -> None:
    assert shown(words) == expected
