"""Row types: what identifies a row, and that rows written before messages had more fields are read as they were."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from anneal.kit.datasets import DatasetReader, DatasetWriter
from anneal.kit.digests import canonical_json
from anneal.kit.messages import plain_row, said
from anneal.kit.records import (
    CONVERSATION,
    PREFERENCE,
    conversation,
    document,
    preference,
    removed_schema,
    row_id,
    to_table,
    up_to_date,
)
from anneal.kit.store import Store
from tests.fixtures.old_rows import OLD_CONVERSATION, old_shard, old_version

QUESTION = {"role": "user", "content": "How do I reset the router?"}
CALL = {"id": "c1", "name": "look_up", "arguments": '{"word": "router"}'}


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(str(tmp_path / "store"), tmp_path / "cache")


def turns(**fields: Any) -> list[dict[str, Any]]:
    return [QUESTION, {"role": "assistant", "content": "Hold the button.", **fields}]


def test_rows_of_before_keep_their_ids() -> None:
    """The digests were recorded before messages had more than role and content."""
    system = {"role": "system", "content": "Answer briefly."}
    answer = {"role": "assistant", "content": "Hold the button — 10 秒."}
    assert conversation([system, QUESTION, answer], source="s")["id"] == (
        "025622cf51ffeebeb28dfe9250cd091623a1c820286ce4eb6d0d585444316756"
    )
    short = [{"role": "user", "content": "hi"}, {"role": "assistant", "content": ""}]
    assert conversation(short, source="s", tools='[{"name":"f"}]')["id"] == (
        "e41305ef480f19493081f4fc9c1ad3eda4ec6d2f9e6668de1749fd820ca358c9"
    )
    assert document("A text.\n", uri="u")["id"] == "dc943efc42aed578a1b10e9e62430ebfe4408c290ee063bab680197d59bde896"


@pytest.mark.parametrize(
    "absent", [{"name": None}, {"tool_calls": None}, {"tool_calls": []}, {"reasoning": None, "weight": None}]
)
def test_an_absent_field_leaves_no_trace(absent: dict[str, Any]) -> None:
    row, plain = conversation(turns(**absent), source="s"), conversation(turns(), source="s")
    assert row == plain
    assert set(row["messages"][1]) == {"role", "content"}


@pytest.mark.parametrize(
    "present",
    [
        {"name": "kim"},
        {"tool_calls": [CALL]},
        {"tool_calls": [{**CALL, "arguments": "{}"}]},
        {"tool_calls": [{"name": "look_up", "arguments": CALL["arguments"]}]},
        {"tool_call_id": "c1"},
        {"reasoning": "A router has a button."},
        {"weight": 0},
        {"weight": 0.5},
        {"content": None, "tool_calls": [CALL]},
    ],
)
def test_every_field_that_is_there_counts_for_the_id(present: dict[str, Any]) -> None:
    others = [conversation(turns(**field), source="s")["id"] for field in ({}, {"name": "x"}, {"weight": 1})]
    assert conversation(turns(**present), source="s")["id"] not in others


def test_what_a_message_has_comes_back_from_a_shard(store: Store) -> None:
    full = turns(name="bot", reasoning="It has one.", weight=0.25, tool_calls=[CALL, {"name": "f", "arguments": "{}"}])
    result = {"role": "tool", "content": "page 4", "tool_call_id": "c1", "name": "look_up"}
    row = conversation([*full, result, {"role": "assistant", "content": None, "tool_calls": [CALL]}], source="s")
    writer = DatasetWriter(store, "conversation")
    writer.add(to_table("conversation", [row]))
    reader = DatasetReader(store, writer.finish(rows_in=1).digest)
    (read,) = reader.table().to_pylist()
    assert plain_row(read) == row
    assert row_id("conversation", read) == row["id"]


def test_a_preference_may_lack_one_side_but_not_both(store: Store) -> None:
    good, bad = [{"role": "assistant", "content": "Hold it."}], [{"role": "assistant", "content": "No idea."}]
    both = preference([QUESTION], chosen=good, rejected=bad, source="s", margin=2)
    wanted = preference([QUESTION], chosen=good, rejected=None, source="s")
    unwanted = preference([QUESTION], chosen=None, rejected=good, source="s")
    swapped = preference([QUESTION], chosen=bad, rejected=good, source="s", margin=2)
    assert len({row["id"] for row in (both, wanted, unwanted, swapped)}) == 4
    with pytest.raises(ValueError, match="chosen or a rejected"):
        preference([QUESTION], chosen=None, rejected=[], source="s")
    writer = DatasetWriter(store, "preference")
    writer.add(to_table("preference", [both, wanted, unwanted]))
    reader = DatasetReader(store, writer.finish(rows_in=3).digest)
    read = reader.table().to_pylist()
    assert [plain_row(row) for row in read] == [both, wanted, unwanted]
    assert [row_id("preference", row) for row in read] == [both["id"], wanted["id"], unwanted["id"]]
    assert reader.table(columns=["id"]).num_rows == 3


def test_old_shards_are_read_in_the_schema_of_today(store: Store) -> None:
    reader = DatasetReader(store, old_version(store, rows=30))
    assert {shard.part for shard in reader.manifest.shards} == {"rows", "removed"}
    assert reader.table().schema.equals(CONVERSATION)
    assert reader.table(part="removed").schema.equals(removed_schema("conversation"))
    assert reader.table(columns=["id", "messages"]).schema.names == ["id", "messages"]
    for row in reader.table().to_pylist():
        assert row_id("conversation", row) == row["id"]
        assert all(set(turn) == {"role", "content"} for turn in plain_row(row)["messages"])


def test_old_rows_can_be_written_again(store: Store) -> None:
    table = pq.read_table(pa.BufferReader(old_shard(4)))
    assert table.schema.equals(OLD_CONVERSATION)
    writer = DatasetWriter(store, "conversation")
    writer.add(table)
    assert writer.finish(rows_in=4).rows_out == 4
    assert up_to_date(table.to_batches()[0]).schema.equals(CONVERSATION)


def test_rows_of_today_are_not_touched() -> None:
    table = to_table("conversation", [conversation(turns(), source="s")])
    assert up_to_date(table) is table
    assert up_to_date(PREFERENCE.empty_table()).schema.equals(PREFERENCE)


def test_what_a_message_says_is_reasoning_content_and_calls() -> None:
    assert said({"role": "assistant", "content": "Look:", "reasoning": "Hm.", "tool_calls": [CALL]}) == (
        'Hm.\nLook:\nlook_up {"word": "router"}'
    )
    assert said({"role": "assistant", "content": None}) == ""
    assert said({"role": "user", "content": "Line\n\n"}) == "Line\n\n"


def test_the_manifest_tells_the_columns(store: Store) -> None:
    writer = DatasetWriter(store, "preference")
    manifest = json.loads(canonical_json(writer.finish(rows_in=0).to_json()))
    assert manifest["kind"] == "preference"
    assert any(column.startswith("rejected: list") for column in manifest["schema"])
