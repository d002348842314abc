"""Every export format: what it writes is read back as the same rows, and what it cannot hold is counted."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from anneal.ingestion.adapters.columns import Columns, fields_of
from anneal.ingestion.adapters.containers import detect_container, read_rows
from anneal.ingestion.adapters.importers import IMPORTERS, detect_format
from anneal.ingestion.adapters.importers.base import Joiner
from anneal.ingestion.adapters.placeholders import Placeholders
from anneal.ingestion.adapters.rows import Broken, Found
from anneal.ingestion.reading import Reading
from anneal.kit.exporters import EXPORTERS, lines_of
from anneal.kit.exporters.base import Losses
from anneal.kit.messages import plain_messages
from anneal.kit.records import conversation, document, preference
from anneal.v1 import ingestion_service_pb2 as pb
from tests.fixtures.random_rows import ROWS

REFUSED = {"empty_answer", "no_learned_turn", "empty_field", "equal_answers"}
"""Why ingestion does not take rows that nothing can be learned from; other reasons would be losses on the way."""


class Gathered:
    """A sink in memory."""

    def __init__(self) -> None:
        self.rows: list[dict[str, Any]] = []
        self.reasons: Counter[str] = Counter()

    def keep(self, row: dict[str, Any], file: str = "") -> None:
        self.rows.append(row)

    def quarantine(self, row: dict[str, Any]) -> None:
        self.reasons[row["reason"]] += 1


def written(name: str, rows: Sequence[dict[str, Any]]) -> tuple[bytes, Losses]:
    losses = Losses()
    return "".join(lines_of(EXPORTERS[name], rows, losses)).encode(), losses


def read_back(name: str, data: bytes, folder: Path) -> Gathered:
    path = folder / f"rows{EXPORTERS[name].suffix}"
    path.write_bytes(data)
    container = detect_container(path, path.name)
    items = list(read_rows(path, container, path.name, max_line_bytes=1 << 20, max_depth=64))
    sink, importer = Gathered(), IMPORTERS[name]
    for item in items:
        assert isinstance(item, Found), item
        assert detect_format(fields_of(item.row)) == name, item.row
    reading = Reading(
        sink,  # type: ignore[arg-type]
        importer,
        Columns({}, importer.fields),
        Placeholders({}),
        pb.ImportDatasetRequest(),
    )
    located: list[tuple[str, Found | Broken]] = [(path.name, item) for item in items]
    if isinstance(importer, Joiner):
        reading.join(importer, located)
    else:
        for where, item in located:
            reading.take(where, item)
    return sink


def content(row: dict[str, Any], but: frozenset[str] = frozenset()) -> str:
    """What of a row a format should bring back."""
    told: dict[str, Any] = {"meta": {k: v for k, v in json.loads(row["meta"]).items() if k != "imported"}}
    if "text" in row:
        return json.dumps([told, row["text"], row["uri"], row["title"], row["language"]], sort_keys=True)
    for side in ("messages", "chosen", "rejected"):
        turns = plain_messages(row.get(side))
        for turn in turns:
            if "tool_calls" in turn:
                turn["content"] = turn["content"] or None
            for field in but:
                turn.pop(field, None)
            if "id" in but:
                turn["tool_calls"] = [{**call, "id": ""} for call in turn.get("tool_calls", ())]
        told[side] = turns
    tools = json.loads(row["tools"]) if row["tools"] else None
    return json.dumps([told, tools, None if "margin" in but else row.get("margin")], sort_keys=True)


NAMES: frozenset[str] = frozenset({"name"})
LOST: dict[str, frozenset[str]] = {
    "openai": frozenset(),
    "sharegpt": frozenset({"name", "tool_call_id", "id"}),
    "openai_preference": frozenset({"margin"}),
    "kto": frozenset({"margin"}),
}


@settings(max_examples=15, deadline=None, suppress_health_check=[*HealthCheck])
@given(data=st.data())
@pytest.mark.parametrize("name", EXPORTERS)
def test_what_is_written_is_read_back(name: str, data: st.DataObject, tmp_path: Path) -> None:
    rows = data.draw(ROWS[EXPORTERS[name].kind])
    text, losses = written(name, rows)
    assert text == written(name, rows)[0]
    but = LOST.get(name, NAMES if EXPORTERS[name].kind == "conversation" else frozenset())
    if losses.rows.total() == len(rows):
        return
    back = read_back(name, text, tmp_path)
    clashing = sum(count for field, count in losses.fields.items() if field.startswith("meta."))
    known = Counter(content(row, but) for row in rows)
    found = Counter(content(row, but) for row in back.rows)
    assert set(back.reasons) <= REFUSED, back.reasons
    assert len(back.rows) + back.reasons.total() + losses.rows.total() == len(rows)
    if not clashing:
        assert found <= known, (found - known, known)


TURNS: list[dict[str, Any]] = [
    {"role": "user", "content": "Where is order 17?"},
    {
        **{"role": "assistant", "content": "Let me look.", "reasoning": "It has a number.", "weight": 0.0},
        "tool_calls": [{"id": "c1", "name": "find", "arguments": '{"number":  "17"}'}],
    },
    {"role": "tool", "content": "shipped", "tool_call_id": "c1"},
    {"role": "assistant", "content": "It was shipped.", "name": "kim"},
]
CHAT = conversation(TURNS, source="s", tools='[{"name": "find"}]', meta={"topic": "orders", "messages": 4})
PAIR = conversation(
    [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "1 + 1?"},
        {"role": "assistant", "content": "2", "reasoning": "Add."},
        {"role": "user", "content": "And 3?"},
        {"role": "assistant", "content": "5"},
    ],
    source="s",
    meta={"grade": 1},
)


def test_openai_holds_calls_reasoning_weights_and_columns() -> None:
    data, losses = written("openai", [CHAT])
    record = json.loads(data)
    assert record["messages"][1] == {
        "role": "assistant",
        "content": "Let me look.",
        "reasoning_content": "It has a number.",
        "tool_calls": [
            {"id": "c1", "type": "function", "function": {"name": "find", "arguments": '{"number":  "17"}'}}
        ],
        "weight": 0,
    }
    assert (record["tools"], record["topic"]) == ([{"name": "find"}], "orders")
    assert +losses.fields == Counter({"meta.messages": 1})


@pytest.mark.parametrize("name", [name for name, one in EXPORTERS.items() if one.kind == "conversation"])
def test_a_conversation_without_tools_is_held_by_every_format(name: str, tmp_path: Path) -> None:
    data, losses = written(name, [PAIR])
    assert not losses.rows
    assert not +losses.fields
    (row,) = read_back(name, data, tmp_path).rows
    assert (row["id"], json.loads(row["meta"])) == (PAIR["id"], {"grade": 1})


@pytest.mark.parametrize("name", ["alpaca", "prompt_completion", "query_response", "oasst", "oasst_flat"])
def test_a_row_that_a_format_would_change_is_left_out_and_counted(name: str) -> None:
    weighted = conversation([TURNS[0], {**TURNS[3], "weight": 0.5}], source="s")
    data, losses = written(name, [CHAT, weighted, PAIR])
    assert losses.rows.total() == 2
    assert losses.rows["weights of turns"] == 1
    assert data


def test_sharegpt_says_that_it_loses_ids() -> None:
    data, losses = written("sharegpt", [CHAT])
    entries = json.loads(data)["conversations"]
    assert [entry["from"] for entry in entries] == ["human", "gpt", "function_call", "observation", "gpt"]
    assert (entries[1]["value"], entries[1]["weight"]) == ("<think>\nIt has a number.\n</think>\n\nLet me look.", 0)
    assert +losses.fields == Counter({"tool_call_id": 1, "id of a tool call": 1, "name": 1})


def test_labelled_answers_and_pairs_go_into_their_own_formats() -> None:
    good, bad = [{"role": "assistant", "content": "yes"}], [{"role": "assistant", "content": "no"}]
    both = preference(TURNS[:1], chosen=good, rejected=bad, source="s", margin=0.5)
    one = preference(TURNS[:1], chosen=None, rejected=bad, source="s")
    data, losses = written("kto", [both, one])
    assert json.loads(data) == {"prompt": TURNS[:1], "completion": bad, "label": False}
    assert losses.rows == Counter({"preferences with two answers": 1})
    data, losses = written("openai_preference", [both, one])
    assert json.loads(data)["non_preferred_output"] == bad
    assert (losses.rows, +losses.fields) == (Counter({"preferences with one answer": 1}), Counter({"margin": 1}))


def test_articles_are_one_list_inside_an_object() -> None:
    pages = [document(f"Page {n}.", uri=f"https://a/{n}", meta={"imported": {"line": n}}) for n in range(2)]
    data, _ = written("articles", pages)
    assert json.loads(data) == {"articles": [{"content": f"Page {n}.", "link": f"https://a/{n}"} for n in range(2)]}
    assert json.loads(written("articles", [])[0]) == {"articles": []}


def test_every_import_format_has_an_export() -> None:
    assert set(EXPORTERS) == set(IMPORTERS)
    assert all(EXPORTERS[name].kind == importer.kind for name, importer in IMPORTERS.items())
