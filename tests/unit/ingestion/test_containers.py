"""Rows out of files: their offsets, and what one bad row costs: itself."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from anneal.ingestion.adapters.containers import detect_container, read_rows
from anneal.ingestion.adapters.rows import Broken, Found, is_unicode
from anneal.ingestion.domain.errors import FileUnreadable, FormatUnknown
from tests.architecture.repository import ROOT

LIMIT, DEPTH = 200, 8
MARK = b"\xef\xbb\xbf"


def read(path: Path, container: str, data: bytes | None = None, **limits: int) -> list[Found | Broken]:
    if data is not None:
        path.write_bytes(data)
    chosen = {"max_line_bytes": LIMIT, "max_depth": DEPTH, **limits}
    return list(read_rows(path, container, path.name, **chosen))


def places(data: bytes, rows: list[Found | Broken]) -> list[tuple[str, int]]:
    """The bytes at the offset of each row (6 of them), and its line."""
    return [(data[row.byte_offset : row.byte_offset + 6].decode("latin-1"), row.line) for row in rows]


def told(rows: list[Found | Broken]) -> list[Any]:
    return [row.row if isinstance(row, Found) else row.reason for row in rows]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "rows"


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b'{"a": "\xff"}', "invalid_utf8"),
        (b'{"a": ', "invalid_json"),
        (b'{"a": NaN}', "invalid_json"),
        (b'{"a": ' + b"1" * 50 + b"}", None),
        (b"[1234]", "wrong_type"),
        (b'{"a": "' + b"x" * (LIMIT - 9) + b'"}', None),
        (b'{"a": "' + b"x" * (LIMIT - 8) + b'"}', "line_too_long"),
        (b'{"a": ' + b"[" * (DEPTH - 1) + b"]" * (DEPTH - 1) + b"}", None),
        (b'{"a": ' + b"[" * DEPTH + b"]" * DEPTH + b"}", "nested_too_deep"),
        (b'{"a": "' + b"[" * (3 * DEPTH) + b'\\""}', None),
    ],
)
def test_a_bad_line_costs_only_itself(path: Path, line: bytes, reason: str | None) -> None:
    data = b'{"n": 1}\n\n' + line + b'\n{"n": 2}'
    rows = read(path, "jsonl", data)
    assert places(data, rows) == [('{"n": ', 1), (line[:6].decode("latin-1"), 3), ('{"n": ', 4)]
    assert told(rows)[::2] == [{"n": 1}, {"n": 2}]
    if reason is None:
        assert isinstance(rows[1], Found)
    else:
        assert told(rows)[1] == reason


def test_the_cause_names_the_byte_in_the_file(path: Path) -> None:
    _, bad = read(path, "jsonl", b'{"n": 1}\n{"a": "\xff"}\n')
    assert isinstance(bad, Broken)
    assert bad.cause == "byte 16 is not UTF-8"
    assert bad.raw == b'{"a": "\xff"}\n'


@pytest.mark.parametrize("mark", [b"", MARK])
def test_a_byte_order_mark_belongs_to_no_row(path: Path, mark: bytes) -> None:
    for container, data in (("jsonl", b'{"n": 1}\n'), ("json", b'[{"n": 1}]'), ("json", b'{"n": 1}')):
        (row,) = read(path, container, mark + data)
        assert isinstance(row, Found)
        assert row.row == {"n": 1}
        assert (mark + data)[row.byte_offset :].startswith(b'{"n"')
    (row,) = read(path, "csv", mark + b"n\n1\n")
    assert isinstance(row, Found)
    assert (row.row, row.byte_offset) == ({"n": "1"}, len(mark) + 2)


def test_the_items_of_a_list_stand_where_they_say(path: Path) -> None:
    data = b' \n[ {"n": 1},\n {"s": "a]},[\\"\xc3\xa9"} ,\n 3, {"b": ]}, {"n":\n4}\n] \n'
    rows = read(path, "json", data)
    assert told(rows) == [{"n": 1}, {"s": 'a]},["é'}, "wrong_type", "invalid_json", {"n": 4}]
    assert places(data, rows) == [('{"n": ', 2), ('{"s": ', 3), ('3, {"b', 4), ('{"b": ', 4), ('{"n":\n', 4)]


def test_a_long_item_costs_only_itself(path: Path) -> None:
    data = b'[{"a": "' + b"x" * 300_000 + b'"}, {"n": 1}]'
    rows = read(path, "json", data)
    assert told(rows) == ["line_too_long", {"n": 1}]
    assert isinstance(rows[0], Broken)
    assert len(rows[0].raw) <= 4096


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"[]", []),
        (b" ", []),
        (b'[{"n": 1}', ["invalid_json"]),
        (b'[{"n": 1},', [{"n": 1}, "invalid_json"]),
        (b"[", ["invalid_json"]),
        (b'[{"n": 1}] {"n": 2}', [{"n": 1}, "invalid_json"]),
        (b'{"n":\n 1}', [{"n": 1}]),
        (b"[" * 100_000 + b"]" * 100_000, ["line_too_long"]),
    ],
)
def test_a_list_that_does_not_end_is_told(path: Path, data: bytes, expected: list[Any]) -> None:
    assert told(read(path, "json", data)) == expected


@pytest.mark.parametrize("container", ["json", "jsonl"])
def test_nesting_of_a_hundred_thousand_does_no_harm(path: Path, container: str) -> None:
    data = b'{"a": ' + b"[" * 100_000 + b"]" * 100_000 + b"}"
    assert told(read(path, container, data, max_line_bytes=1 << 20)) == ["nested_too_deep"]
    unclosed = b'{"a": ' + b'[{"' * 100_000
    assert told(read(path, container, unclosed, max_line_bytes=1 << 20)) in (["nested_too_deep"], ["invalid_json"])


@pytest.mark.parametrize("container", ["jsonl", "json", "csv", "txt"])
def test_a_line_of_100_mb_is_never_held(path: Path, container: str) -> None:
    """In a process of its own, whose peak before and after the reading is compared."""
    head = {"csv": b"text,n\n", "json": b"[", "jsonl": b"", "txt": b""}[container]
    with path.open("wb") as file:
        file.write(head)
        for _ in range(100):
            file.write(b"x" * (1 << 20))
        file.write(b"\n")
    code = (
        "import sys; from pathlib import Path\n"
        "from anneal.ingestion.adapters.containers import read_rows\n"
        "from benchmarks.curation.memory import peak_mib\n"
        "before = peak_mib()\n"
        "rows = list(read_rows(Path(sys.argv[1]), sys.argv[2], 'rows', max_line_bytes=1 << 20, max_depth=8))\n"
        "print([row.reason for row in rows], max(len(row.raw) for row in rows), round(peak_mib() - before))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, path, container], capture_output=True, text=True, check=True, cwd=ROOT
    )
    reasons, kept, grown_mib = done.stdout.rsplit(maxsplit=2)
    assert "line_too_long" in reasons
    assert int(kept) <= 4096
    assert int(grown_mib) < 16


def test_csv_offsets_are_those_of_the_first_line(path: Path) -> None:
    data = b'text,n\r\n"two\nlines, ""quoted""",1\r\n\r\nshort\r\nbad \xff,2\r\nlast,3'
    rows = read(path, "csv", data)
    assert told(rows) == [
        {"text": 'two\nlines, "quoted"', "n": "1"},
        "wrong_field_count",
        "invalid_utf8",
        {"text": "last", "n": "3"},
    ]
    assert places(data, rows) == [('"two\nl', 2), ("short\r", 5), ("bad \xff,", 6), ("last,3", 7)]


def test_csv_goes_on_after_what_it_cannot_read(path: Path) -> None:
    data = b'a,b\n"x"y,1\ngood,2\n' + b"z" * (LIMIT + 1) + b",3\ngood,4\n" + b'open,"never closed\n'
    assert told(read(path, "csv", data)) == [
        "invalid_csv",
        {"a": "good", "b": "2"},
        "line_too_long",
        {"a": "good", "b": "4"},
        "invalid_csv",
    ]


@pytest.mark.parametrize("header", [b"a,a\n", b'a,"b"c\n', b"a" * (LIMIT + 1) + b",b\n"])
def test_a_csv_header_that_cannot_be_read_refuses_the_file(path: Path, header: bytes) -> None:
    with pytest.raises(FileUnreadable, match="rows: the header"):
        read(path, "csv", header + b"1,2\n")


def test_csv_columns_that_hold_json_are_parsed(path: Path) -> None:
    data = b'messages,other\n"[{""role"": ""user""}]","[1]"\nno json,x\n"' + b"[" * (DEPTH + 1) + b'",x\n'
    assert told(read(path, "csv", data)) == [
        {"messages": [{"role": "user"}], "other": "[1]"},
        {"messages": "no json", "other": "x"},
        "nested_too_deep",
    ]


def test_a_tsv_is_known_by_its_name(tmp_path: Path) -> None:
    assert told(read(tmp_path / "a.tsv", "csv", b"a\tb\n1,5\t2\n")) == [{"a": "1,5", "b": "2"}]


def test_text_becomes_paragraphs(path: Path) -> None:
    data = b"one\ntwo\n\n \n three \r\n\r\nbad \xff\nline\n\n" + b"long\n" * 50 + b"\nlast"
    rows = read(path, "txt", data)
    assert told(rows) == [
        {"text": "one\ntwo"}, {"text": "three"}, "invalid_utf8", "line_too_long", {"text": "last"}
    ]  # fmt: skip
    assert places(data, rows)[0] == ("one\ntw", 1)
    assert places(data, rows)[2:4] == [("bad \xff\n", 7), ("long\nl", 10)]


TABLE = pa.table({"text": ["a", "b", "c", "d"], "n": [1, 2, 3, 4]})
ROWS = [{"text": text, "n": n} for text, n in zip("abcd", (1, 2, 3, 4), strict=True)]


def write_arrow(path: Path, table: pa.Table) -> None:
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, table.schema) as writer:
        writer.write_table(table, max_chunksize=2)


def bad_text() -> pa.Table:
    good = pa.array([b"a", b"\xff", b"c", b"d"], pa.binary())
    return pa.table({"text": good.view(pa.string()), "n": [1, 2, 3, 4]})


@pytest.mark.parametrize("container", ["parquet", "arrow"])
def test_columnar_rows_have_their_number_as_their_place(path: Path, container: str) -> None:
    pq.write_table(TABLE, path, row_group_size=2) if container == "parquet" else write_arrow(path, TABLE)
    rows = read(path, container)
    assert told(rows) == ROWS
    assert [(row.byte_offset, row.line) for row in rows] == [(0, 1), (1, 2), (2, 3), (3, 4)]


@pytest.mark.parametrize("container", ["parquet", "arrow"])
def test_a_bad_value_in_a_column_costs_its_row(path: Path, container: str) -> None:
    pq.write_table(bad_text(), path) if container == "parquet" else write_arrow(path, bad_text())
    rows = read(path, container)
    assert told(rows) == [ROWS[0], "unreadable_row", ROWS[2], ROWS[3]]
    assert rows[1].byte_offset == 1


def test_a_date_python_cannot_hold_costs_its_row(path: Path) -> None:
    pq.write_table(pa.table({"when": pa.array([0, 2**62], pa.timestamp("us"))}), path)
    rows = read(path, "parquet")
    assert [type(row) for row in rows] == [Found, Broken]


def test_a_damaged_row_group_costs_its_rows(path: Path) -> None:
    texts = [f"{index:04d}" * 50 for index in range(3000)]
    pq.write_table(pa.table({"text": texts}), path, row_group_size=1000, compression="zstd", use_dictionary=False)
    group = pq.ParquetFile(path).metadata.row_group(1).column(0)
    data = bytearray(path.read_bytes())
    at = group.data_page_offset + 40
    data[at : at + 200] = b"\0" * 200
    rows = read(path, "parquet", bytes(data))
    assert [row.row["text"] for row in rows if isinstance(row, Found)] == texts[:1000] + texts[2000:]
    (broken,) = [row for row in rows if isinstance(row, Broken)]
    assert broken.byte_offset == 1000
    assert broken.cause.startswith("rows 1000 to 1999 of row group 1 cannot be read")


@pytest.mark.parametrize("container", ["parquet", "arrow"])
def test_a_columnar_file_without_its_end_is_refused_by_name(path: Path, container: str) -> None:
    pq.write_table(TABLE, path) if container == "parquet" else write_arrow(path, TABLE)
    with pytest.raises(FileUnreadable, match=r"rows is no \w+ file that can be read") as refused:
        read(path, container, path.read_bytes()[:-20])
    assert refused.value.facts == {"file": "rows"}


@pytest.mark.parametrize(
    ("name", "data", "container"),
    [
        ("a", b"PAR1....", "parquet"),
        ("a.json", b"ARROW1..", "arrow"),
        ("a", b' [{"a": 1}]', "json"),
        ("a", MARK + b'{"a": 1}\n{"a": 2}', "jsonl"),
        ("a", b'{"a": 1}', "jsonl"),
        ("a", b'{\n "a": 1\n}', "json"),
        ("a", b'{"a": "broken\n{"a": 1}\n', "jsonl"),
        ("a.jsonl", b'{"a": "' + b"x" * 70_000 + b'"}\n', "jsonl"),
        ("a.ndjson", b"broken\n", "jsonl"),
        ("a.csv", b"x,y\n", "csv"),
        ("a.tsv", b"x\ty\n", "csv"),
        ("a", b"instruction,output\n", "csv"),
        ("a", b"Dear Sir, this is text\n", "txt"),
        ("a", b"", "txt"),
    ],
)
def test_a_container_is_known_by_content_then_by_name(path: Path, name: str, data: bytes, container: str) -> None:
    path.write_bytes(data)
    assert detect_container(path, name) == container


def test_a_binary_file_has_no_container(path: Path) -> None:
    path.write_bytes(b"\x7fELF\0\0")
    with pytest.raises(FormatUnknown, match=r"tool\.bin is binary"):
        detect_container(path, "tool.bin")


@pytest.mark.parametrize(
    ("value", "good"),
    [
        ({"a": ["é", {"b": "\U0001f600"}]}, True),
        ({"a": "\ud800"}, False),
        ({"a": [{"b": ["\udc00"]}]}, False),
        ({"\ud800": 1}, False),
        ({"a": (1, None, 2.0)}, True),
    ],
)
def test_half_a_surrogate_pair_is_no_unicode(value: Any, good: bool) -> None:
    assert is_unicode(value) is good


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=8,
)
OBJECTS = st.lists(st.dictionaries(st.text(max_size=4), VALUES, max_size=4), max_size=6)


@given(rows=OBJECTS, ascii_only=st.booleans(), ended=st.booleans())
def test_jsonl_comes_back_as_it_was_written(
    tmp_path_factory: pytest.TempPathFactory, rows: list[dict[str, Any]], ascii_only: bool, ended: bool
) -> None:
    lines = [json.dumps(row, ensure_ascii=ascii_only).encode() for row in rows]
    data = b"\n".join(lines) + (b"\n" if ended else b"")
    path = tmp_path_factory.getbasetemp() / "round_trip.jsonl"
    found = read(path, "jsonl", data, max_line_bytes=1 << 20, max_depth=64)
    assert told(found) == rows
    assert [data[row.byte_offset :].split(b"\n", 1)[0] for row in found] == lines


@given(rows=OBJECTS, indent=st.sampled_from([None, 0, 2]))
def test_a_json_list_comes_back_as_it_was_written(
    tmp_path_factory: pytest.TempPathFactory, rows: list[dict[str, Any]], indent: int | None
) -> None:
    path = tmp_path_factory.getbasetemp() / "round_trip.json"
    data = json.dumps(rows, indent=indent).encode()
    assert told(read(path, "json", data, max_line_bytes=1 << 20, max_depth=64)) == rows


PAGES = [{"content": f"page {n} with [brackets] and {{braces}}", "tags": [{"a": 1}]} for n in range(3)]


@pytest.mark.parametrize("indent", [None, 1])
@pytest.mark.parametrize("before", [{}, {"version": "1 {", "made": {"by": ["x"]}}])
@pytest.mark.parametrize("after", [{}, {"total": 3}])
def test_the_one_list_inside_an_object_holds_the_rows(
    path: Path, indent: int | None, before: dict[str, Any], after: dict[str, Any]
) -> None:
    data = json.dumps({**before, "pages": PAGES, **after}, indent=indent).encode()
    path.write_bytes(data)
    assert detect_container(path, "pages.json") == "json"
    found = read(path, "json", data, max_line_bytes=1 << 20)
    rows = [row for row in found if isinstance(row, Found)]
    assert told([*rows]) == PAGES
    assert [json.loads(row.raw) for row in rows] == PAGES
    assert all(data[row.byte_offset :].startswith(row.raw) for row in rows)
    beside = [row for row in found if isinstance(row, Broken)]
    assert [row.reason for row in beside] == ["beside_the_list"] * (bool(before) + bool(after))
    assert all(name in "".join(row.cause for row in beside) for name in (*before, *after))


@pytest.mark.parametrize(
    "row", [{"messages": [{"role": "user"}]}, {"id": 1, "prompt": [{"role": "user"}], "chosen": []}, {"a": [1]}, {}]
)
def test_a_row_with_a_list_stays_a_row(path: Path, row: dict[str, Any]) -> None:
    assert told(read(path, "json", json.dumps(row, indent=1).encode(), max_line_bytes=1 << 20)) == [row]


def test_an_object_around_a_list_is_told_from_lines_with_lists(path: Path) -> None:
    lines = b"\n".join(json.dumps({"turns": PAGES[:1]}).encode() for _ in range(2))
    around = b'{"pages": [\n' + b",\n".join(json.dumps(page).encode() for page in PAGES) + b"\n]}\n"
    for data, container in ((lines, "jsonl"), (around, "json"), (json.dumps({"pages": PAGES}).encode(), "json")):
        path.write_bytes(data)
        assert detect_container(path, "rows") == container
    assert told(read(path, "json", around, max_line_bytes=1 << 20)) == PAGES


def test_a_list_that_is_cut_off_says_so(path: Path) -> None:
    data = json.dumps({"pages": PAGES}).encode()
    for cut in (data[:-1], data[:-2], data[:-9]):
        found = read(path, "json", cut, max_line_bytes=1 << 20)
        assert [row.reason for row in found if isinstance(row, Broken)] == ["invalid_json"], cut[-9:]


def test_the_bytes_of_a_row_stay_with_it(path: Path) -> None:
    lines = b'{"a": "\xc3\xa9"}\r\n{ "a" : 1 }\n'
    assert [row.raw for row in read(path, "jsonl", lines)] == [b'{"a": "\xc3\xa9"}\r\n', b'{ "a" : 1 }\n']
    table = b'a,b\r\n1,"two\r\nlines"\r\n3,4,5\r\n'
    assert [row.raw for row in read(path, "csv", table)] == [b'1,"two\r\nlines"', b"3,4,5\r\n"]
