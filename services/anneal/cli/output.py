"""What the command prints: tables and progress for people, lines and JSON for programs."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from time import monotonic
from typing import Any

from google.protobuf import json_format
from google.protobuf.message import Message
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from anneal.cli import tables
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

    @property
    def is_terminal(self) -> bool:
        """Whether people read the output as it comes; `FORCE_COLOR`, which many set, turns no pipe into a terminal."""
        return self.console.file.isatty()

    def line(self, text: str) -> None:
        """A line for people; nothing under `--json`."""
        if not self.as_json:
            self.console.print(text, markup=False)

    def notice(self, text: str) -> None:
        """A line for people; under `--json` on standard error, where the console is."""
        self.console.print(text, markup=False)

    def message(self, message: Message) -> None:
        """One resource: a line for each field, with its name and its value; in a pipe, a tab between them."""
        value = as_dict(message)
        if self.as_json:
            self.json(value)
            return
        fields = {key: item for key, item in value.items() if item not in ("", [], {}, None, 0, "0", False)}
        if not self.is_terminal:
            self._records([(key, _cell(item)) for key, item in fields.items()])
            return
        width = max(map(len, fields), default=0) + tables.GAP
        for key, item in fields.items():
            text = item if isinstance(item, str) else json.dumps(item, ensure_ascii=False, indent=1)
            self._lines([f"{key:<{width}}{text}".replace("\n", f"\n{'':<{width}}")])

    def table(self, columns: Sequence[str], rows: Iterable[Sequence[str]], shorten: Sequence[str] = ()) -> None:
        """A list: a table on a terminal, where columns in `shorten` give way, least telling first; lines elsewhere."""
        cells = list(rows)
        if not self.is_terminal:
            self._records(cells)
        elif cells:
            header, *lines = tables.aligned(columns, cells, self.console.width, shorten)
            self.console.print(header, markup=False, style="bold")
            self._lines(lines)
        else:
            self._lines(["none"])

    def messages(self, messages: Iterable[Message], columns: Sequence[str], shorten: Sequence[str] = ()) -> None:
        """A list of resources: some of their fields, as in `table`."""
        values = [as_dict(message) for message in messages]
        if self.as_json:
            self.json(values)
            return
        self.table(columns, [[_cell(value.get(column)) for column in columns] for value in values], shorten)

    def _records(self, rows: Sequence[Sequence[str]]) -> None:
        for line in tables.records(rows):
            self.console.file.write(f"{line}\n")  # printed by the console, tabs would become spaces

    def _lines(self, lines: Iterable[str]) -> None:
        for line in lines:
            self.console.print(line, markup=False)

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
    """Turns a job's events into a moving bar, or into a line now and then.

    What the job waits for and why an attempt was lost are shown at once, in every mode.
    """

    def __init__(self, output: Output, title: str, bar: Progress | None, task: TaskID | None) -> None:
        self._output, self._title, self._bar, self._task = output, title, bar, task
        self._told = monotonic()
        self._pending = ""
        self.metrics: list[jobs.Metric] = []

    def __call__(self, event: jobs.JobEvent) -> None:
        """Take one event."""
        if event.HasField("metric"):
            self.metrics.append(event.metric)
        elif event.HasField("log") and event.log.level != "info":
            self._output.notice(f"  {self._title}: {event.log.level}: {event.log.text}")
        elif event.HasField("state"):
            if event.state == jobs.JobState.JOB_STATE_RETRYING:
                self._output.notice(f"  {self._title}: the next attempt goes on from the last checkpoint")
            self._end_wait()
        elif event.HasField("progress"):
            self._progress(event.progress)

    def _end_wait(self) -> None:
        """The job waits no more: no display may go on saying so."""
        if self._pending and self._bar is not None and self._task is not None:
            self._bar.update(self._task, what="")
        self._pending = ""

    def _progress(self, progress: jobs.Progress) -> None:
        total = progress.total if progress.HasField("total") else None
        what = describe(progress)
        if self._bar is not None and self._task is not None:
            self._pending = progress.message if progress.pending_reason else ""
            self._bar.update(self._task, completed=progress.done, total=total, what=what)
            return
        if progress.pending_reason:
            if self._pending != progress.message:
                self._output.notice(f"  {self._title}: {what}")
            self._pending = progress.message
            return
        if self._pending:
            self._output.notice(f"  {self._title}: it waits no more")
            self._pending = ""
            return
        now = monotonic()
        if now - self._told >= LINE_EVERY_S:
            self._told = now
            self._output.line(f"  {self._title}: {what}")


def describe(progress: jobs.Progress) -> str:
    """How far a job is, and what it waits for, as one line."""
    total = progress.total if progress.HasField("total") else None
    has_count = not progress.pending_reason or bool(progress.done)
    count = " ".join(text for text in (_count(progress.done, total), progress.unit) if text) if has_count else ""
    separator = ", " if progress.pending_reason else " "
    return separator.join(text for text in (count, progress.message) if text)


def _count(done: int, total: int | None) -> str:
    return f"{done:,}" if total is None else f"{done:,} of {total:,}"


def _cell(value: Any) -> str:
    if value is None:
        return ""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
