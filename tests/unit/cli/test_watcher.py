"""What a waiting command shows of a job: on a terminal, piped, and beside JSON."""

from __future__ import annotations

import ast
import io
import json
from pathlib import Path

import pytest
from rich.console import Console

import anneal.cli
from anneal.cli.output import Output, Watcher, describe
from anneal.v1 import job_service_pb2 as jobs

CLI = Path(anneal.cli.__file__).parent
WAITING = ("run", "wait", "wait_or_cancel")
NODE = "waiting for a node: 0/1 nodes are available: 1 Insufficient cpu"
PENDING = jobs.JobEvent(progress=jobs.Progress(message=NODE, pending_reason=jobs.PendingReason.PENDING_REASON_NODE))
LOST = jobs.JobEvent(log=jobs.LogLine(level="warning", text="attempt 1 was lost: its container was killed (OOMKilled)"))
RETRYING = jobs.JobEvent(state=jobs.JobState.JOB_STATE_RETRYING)
RUNNING = jobs.JobEvent(state=jobs.JobState.JOB_STATE_RUNNING)
STEP = jobs.JobEvent(progress=jobs.Progress(done=3, total=10, unit="steps"))


def watched(*events: jobs.JobEvent, as_json: bool = False) -> list[str]:
    """The lines that a command without a terminal prints."""
    output, file = Output(as_json=as_json), io.StringIO()
    output.console.file = file
    with output.job("train") as watcher:
        for event in events:
            watcher(event)
    return [line.strip() for line in file.getvalue().splitlines()]


@pytest.mark.parametrize("as_json", [False, True])
def test_a_wait_is_printed_at_once_and_once(as_json: bool, capsys: pytest.CaptureFixture[str]) -> None:
    lines = watched(PENDING, PENDING, jobs.JobEvent(progress=jobs.Progress()), STEP, as_json=as_json)
    assert lines == [f"train: {NODE}", "train: it waits no more"]
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("as_json", [False, True])
def test_a_lost_attempt_is_printed_with_its_reason(as_json: bool) -> None:
    assert watched(LOST, RETRYING, RUNNING, as_json=as_json) == [
        "train: warning: attempt 1 was lost: its container was killed (OOMKilled)",
        "train: the next attempt goes on from the last checkpoint",
    ]


def test_json_goes_to_standard_output_and_waits_beside_it(capsys: pytest.CaptureFixture[str]) -> None:
    output = Output(as_json=True)
    with output.job("train") as watcher:
        watcher(PENDING)
    output.json({"name": "a"})
    captured = capsys.readouterr()
    assert json.loads(captured.out) == {"name": "a"}
    assert NODE in captured.err


@pytest.mark.parametrize("end", [RUNNING, STEP, jobs.JobEvent(progress=jobs.Progress())])
def test_a_terminal_shows_the_wait_only_while_it_lasts(end: jobs.JobEvent) -> None:
    output = Output(as_json=False)
    output.console = Console(file=io.StringIO(), force_terminal=True, width=200)
    with output.job("train") as watcher:
        watcher(PENDING)
        assert _shown(watcher) == NODE
        watcher(end)
        assert "waiting" not in _shown(watcher)


def test_every_command_that_waits_for_a_job_shows_it() -> None:
    waiting = {}
    for path in sorted(CLI.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in WAITING:
                receiver = ast.unparse(node.func.value)
                if receiver.endswith(("client", "client()")) or (receiver == "self" and path.name == "client.py"):
                    waiting[f"{path.name}:{node.lineno} {ast.unparse(node)}"] = ast.unparse(node.args[-1])
    assert len(waiting) >= 6
    replays = "lambda e: watched.append"  # of a job that has ended
    assert [where for where, shown in waiting.items() if not shown.startswith(("watcher", "on_event", replays))] == []


def _shown(watcher: Watcher) -> str:
    assert watcher._bar is not None
    (task,) = watcher._bar.tasks
    return str(task.fields["what"])


def test_progress_is_one_line() -> None:
    assert describe(PENDING.progress) == NODE
    assert describe(STEP.progress) == "3 of 10 steps"
    both = jobs.Progress(done=3, total=10, unit="steps", message=NODE, pending_reason=PENDING.progress.pending_reason)
    assert describe(both) == f"3 of 10 steps, {NODE}"
    assert describe(jobs.Progress(done=3, unit="rows", message="reading")) == "3 rows reading"
