"""Lists on terminals of every width, and elsewhere."""

from __future__ import annotations

import fcntl
import os
import pty
import struct
import subprocess
import sys
import termios
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len

from anneal.cli import tables
from anneal.cli.output import Output
from anneal.cli.resources import _COLUMNS, _SHORTEN
from anneal.v1 import dataset_pb2

NAME = "projects/python-docs/datasets/summarize-rows"
VERSION = f"{NAME}/versions/0123456789ab"
SHOW = f"""
from anneal.cli.output import Output
from anneal.v1 import dataset_pb2
dataset = dataset_pb2.Dataset(name={NAME!r}, kind="DATASET_KIND_CONVERSATION", latest_version={VERSION!r})
dataset.create_time.FromJsonString("2026-11-30T10:00:00Z")
output = Output(as_json=False)
output.messages([dataset, dataset], ("name", "kind", "latest_version", "create_time"), ("create_time", "kind"))
output.message(dataset)
output.messages([], ("name",))
"""

CELLS = st.text(alphabet=st.characters(codec="utf-8", exclude_categories=["Cc", "Cs"]), max_size=40)
ROWS = st.lists(st.tuples(CELLS, CELLS, CELLS, CELLS), min_size=1, max_size=5)
COLUMNS = ("name", "first", "second", "third")


def environment() -> dict[str, str]:
    path = os.pathsep.join(part for part in sys.path if part)
    kept = {name: value for name, value in os.environ.items() if name not in ("COLUMNS", "LINES")}
    return {**kept, "PYTHONPATH": path, "TERM": "xterm", "FORCE_COLOR": "1"}


def on_terminal(width: int, tmp_path: Path) -> list[str]:
    """What the program shows on a terminal of that width."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 50, width, 0, 0))
    process = subprocess.Popen(
        [sys.executable, "-c", SHOW], stdout=theirs, stdin=theirs, env=environment(), cwd=tmp_path
    )
    os.close(theirs)
    shown = b""
    while True:
        try:
            block = os.read(ours, 65536)
        except OSError:  # the program has ended
            break
        if not block:
            break
        shown += block
    os.close(ours)
    assert process.wait(30) == 0
    return shown.decode().replace("\x1b[1m", "").replace("\x1b[0m", "").splitlines()


@pytest.mark.parametrize("width", [60, 80, 140, 200])
def test_a_terminal_gets_a_table_with_whole_names(width: int, tmp_path: Path) -> None:
    header, first, second, *rest = on_terminal(width, tmp_path)
    assert header.split()[0] == "name"
    assert first == second
    assert first.startswith(NAME)
    assert VERSION in first
    is_whole = width == 200
    assert ("2026-11-30T10:00:00Z" in first) is is_whole
    assert ("…" in first) is (width == 140)
    assert any("are too few for" in line for line in rest) is (width < 140)
    (shown,) = [line for line in rest if line.startswith("latest_version")]
    assert shown.split() == ["latest_version", VERSION]
    assert rest[-1] == "none"


def test_a_pipe_gets_a_record_a_line_with_tabs_and_whole_names(tmp_path: Path) -> None:
    command = [sys.executable, "-c", SHOW]
    ran = subprocess.run(command, capture_output=True, text=True, env=environment(), cwd=tmp_path, check=True)
    record = f"{NAME}\tDATASET_KIND_CONVERSATION\t{VERSION}\t2026-11-30T10:00:00Z"
    fields = record.split("\t")
    shown = [f"name\t{fields[0]}", f"kind\t{fields[1]}", f"create_time\t{fields[3]}", f"latest_version\t{fields[2]}"]
    first, second, *rest = ran.stdout.splitlines()
    assert first == second == record
    assert sorted(rest) == sorted(shown), "and nothing for the empty list"


def test_white_space_in_a_cell_breaks_no_record(capsys: pytest.CaptureFixture[str]) -> None:
    Output(as_json=False).table(("a", "b"), [("x\ty", "first\nsecond\r\n"), ("", "[bold]z[/bold]")])
    assert capsys.readouterr().out == "x y\tfirst second\n\t[bold]z[/bold]\n"
    Output(as_json=False).message(dataset_pb2.Dataset(name="a\nb"))
    assert capsys.readouterr().out.splitlines()[0] == "name\ta b"


def _total(rows: list[tuple[str, ...]]) -> int:
    """Width of the whole table."""
    cells = [[" ".join(cell.split()) for cell in row] for row in (COLUMNS, *rows)]
    widths = [max(cell_len(row[number]) for row in cells) for number in range(len(COLUMNS))]
    return sum(widths) + tables.GAP * (len(COLUMNS) - 1)


@given(rows=ROWS, width=st.integers(20, 200))
def test_columns_give_way_in_their_order_and_no_other_does(rows: list[tuple[str, ...]], width: int) -> None:
    shorten = ("third", "second")
    header, *lines = tables.aligned(COLUMNS, rows, width, shorten)
    squeezed = [tuple(" ".join(cell.split()) for cell in row) for row in rows]
    notes, lines = lines[len(rows) :], lines[: len(rows)]
    for row, line in zip(squeezed, lines, strict=True):
        assert line.startswith(row[0])
        assert row[1] in line
        if _total(rows) <= width:
            assert [cell for cell in row if cell not in line] == []
    if "second" not in header.split():
        assert "third" not in header.split(), "the least telling one is the first to be left out"
    assert bool(notes) is (len(header.split()) < len(COLUMNS))
    least = sum(max(cell_len(one[n]) for one in (COLUMNS, *squeezed)) for n in (0, 1)) + tables.GAP
    for line in (header, *lines):
        assert cell_len(line) <= max(width, least)


@given(rows=ROWS)
def test_records_can_be_split_again(rows: list[tuple[str, ...]]) -> None:
    squeezed = [[" ".join(cell.split()) for cell in row] for row in rows]
    assert [line.split("\t") for line in tables.records(rows)] == squeezed


def test_a_name_never_gives_way() -> None:
    assert _COLUMNS.keys() == _SHORTEN.keys()
    for group, shorten in _SHORTEN.items():
        assert "name" not in shorten
        assert set(shorten) <= set(_COLUMNS[group])
