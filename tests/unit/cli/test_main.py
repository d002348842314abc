"""What a person reads when a command line is wrong: one line, and an exit code a script can use."""

from __future__ import annotations

import pytest

from anneal.cli import __main__ as command


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


def test_help_is_no_error(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(monkeypatch, "--help") == 0
    assert capsys.readouterr().err == ""


def test_an_interrupted_command_says_so(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def interrupted() -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("typer.core.TyperGroup.invoke", lambda *_: interrupted())
    assert run(monkeypatch, "jobs", "list") == 130
    assert capsys.readouterr().err == "anneal: stopped\n"
