"""What the command prints: tables and progress for people, JSON for programs, one clear line for an error."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from time import monotonic
from typing import Any

import grpc
from google.protobuf import json_format
from google.protobuf.message import Message
from pydantic import ValidationError
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn
from rich.table import Table

from anneal.cli.client import OperationFailed
from anneal.kit.errors import Invalid, Refusal
from anneal.kit.rpc.status import decode_status, status_of
from anneal.v1 import job_service_pb2 as jobs

# Without a terminal a long step says how far it is this often.
LINE_EVERY_S = 10.0


def as_dict(message: Message) -> dict[str, Any]:
    """A message as JSON values, field names as in the protos, unset fields shown."""
    made: dict[str, Any] = json_format.MessageToDict(
        message, preserving_proto_field_name=True, always_print_fields_with_no_presence=True
    )
    return made


class Output:
    """Prints in one of two ways."""

    def __init__(self, *, as_json: bool) -> None:
        self.as_json = as_json
        self.console = Console(stderr=as_json, highlight=False, soft_wrap=True)

    def line(self, text: str) -> None:
        """A line for people; nothing under `--json`."""
        if not self.as_json:
            self.console.print(text, markup=False)

    def message(self, message: Message) -> None:
        """One resource."""
        value = as_dict(message)
        if self.as_json:
            self.json(value)
            return
        table = Table(show_header=False, box=None, padding=(0, 2, 0, 0))
        for key, item in value.items():
            if item not in ("", [], {}, None, 0, "0", False):
                text = item if isinstance(item, str) else json.dumps(item, ensure_ascii=False, indent=1)
                table.add_row(key, text)
        self.console.print(table, markup=False)

    def table(self, columns: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
        """A table for people."""
        table = Table(*columns, box=None, padding=(0, 2, 0, 0))
        for row in rows:
            table.add_row(*row)
        self.console.print(table, markup=False)

    def messages(self, messages: Iterable[Message], columns: Sequence[str]) -> None:
        """A list of resources as a table of some of their fields."""
        values = [as_dict(message) for message in messages]
        if self.as_json:
            self.json(values)
            return
        table = Table(*columns, box=None, padding=(0, 2, 0, 0), header_style="bold")
        for value in values:
            table.add_row(*(_cell(value.get(column)) for column in columns))
        if values:
            self.console.print(table, markup=False)
        else:
            self.console.print("none")

    def json(self, value: Any) -> None:
        """A JSON value on standard output."""
        json.dump(value, sys.stdout, ensure_ascii=False, indent=2)
        sys.stdout.write("\n")
        sys.stdout.flush()  # `up` goes on after it

    @contextmanager
    def job(self, title: str) -> Iterator[Watcher]:
        """Show the progress of one job."""
        if self.as_json or not self.console.is_terminal:
            yield Watcher(self, title, None, None)
            return
        columns = (
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            TextColumn("{task.fields[what]}"),
            TimeElapsedColumn(),
        )
        with Progress(*columns, console=self.console, transient=True) as bar:
            yield Watcher(self, title, bar, bar.add_task(title, total=None, what=""))


class Watcher:
    """Turns a job's events into a moving bar, or into a line now and then."""

    def __init__(self, output: Output, title: str, bar: Progress | None, task: TaskID | None) -> None:
        self._output, self._title, self._bar, self._task = output, title, bar, task
        self._told = monotonic()
        self.metrics: list[jobs.Metric] = []

    def __call__(self, event: jobs.JobEvent) -> None:
        """Take one event."""
        if event.HasField("metric"):
            self.metrics.append(event.metric)
        elif event.HasField("log") and event.log.level != "info":
            self._output.line(f"  {self._title}: {event.log.level}: {event.log.text}")
        elif event.HasField("state") and event.state == jobs.JobState.JOB_STATE_RETRYING:
            self._output.line(f"  {self._title}: an attempt was lost; the next one goes on from the last checkpoint")
        elif event.HasField("progress"):
            self._progress(event.progress)

    def _progress(self, progress: jobs.Progress) -> None:
        total = progress.total if progress.HasField("total") else None
        what = " ".join(part for part in (_count(progress.done, total), progress.unit, progress.message) if part)
        if self._bar is not None and self._task is not None:
            self._bar.update(self._task, completed=progress.done, total=total, what=what)
            return
        now = monotonic()
        if now - self._told >= LINE_EVERY_S:
            self._told = now
            self._output.line(f"  {self._title}: {what}")


def _count(done: int, total: int | None) -> str:
    return f"{done:,}" if total is None else f"{done:,} of {total:,}"


def _cell(value: Any) -> str:
    if value is None:
        return ""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def explain(error: BaseException) -> str:
    """An error as one line: what was wrong, where, what to do."""
    if isinstance(error, OperationFailed):
        refusal = decode_status(error.operation.error)
        name = error.operation.name
        if refusal is not None:
            return f"{name} failed: {_refusal(refusal)}"
        return f"{name} failed: {error.operation.error.message} (its log is under logs/{name.rsplit('/', 1)[-1]})"
    if isinstance(error, Refusal):
        return _refusal(error)
    if isinstance(error, grpc.RpcError):
        call: Any = error
        refusal = decode_status(status_of(error))
        if call.code() is grpc.StatusCode.UNAVAILABLE and (refusal is None or refusal.reason == "SERVICE_DOWN"):
            return f"no server answers ({call.details()}): start one with `anneal up`, or name it with --address"
        return _refusal(refusal) if refusal is not None else f"{call.code().name}: {call.details()}"
    if isinstance(error, ValidationError):
        places = (f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors())
        return "; ".join(places)
    if isinstance(error, json_format.ParseError):
        return str(error)
    if isinstance(error, OSError) and error.strerror:
        return f"{error.strerror}: {error.filename}" if error.filename else error.strerror
    return f"{type(error).__name__}: {error}"


def _refusal(refusal: Refusal) -> str:
    text = str(refusal)
    if isinstance(refusal, Invalid):
        named = [f"{path}: {what}" for path, what in refusal.violations if f"{path}: {what}" not in text]
        text = "; ".join([text, *named])
    wait = "" if refusal.retry_after_s is None else f"; try again in {refusal.retry_after_s:g} s"
    return f"{text} ({refusal.reason}){wait}"
