"""Each row format: what its rows become, and the reason a row that cannot be used leaves with."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest

from anneal.ingestion.adapters.importers import IMPORTERS, detect_format
from anneal.ingestion.adapters.importers.base import BadRow, Imported

USER, ANSWER = {"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}


def read(name: str, row: dict[str, Any]) -> Imported:
    (one,) = IMPORTERS[name].read(row)
    return one


def turns(name: str, row: dict[str, Any]) -> list[tuple[str, str]]:
    return [(message["role"], message["content"]) for message in read(name, row).messages]


def refused(name: str, row: dict[str, Any]) -> str:
    with pytest.raises(BadRow) as bad:
        list(IMPORTERS[name].read(row))
    assert str(bad.value)
    return bad.value.reason


@pytest.mark.parametrize(
    ("row", "name"),
    [
        ({"messages": []}, "openai"),
        ({"messages": "text"}, None),
        ({"conversations": []}, "sharegpt"),
        ({"instruction": "i", "output": "o"}, "alpaca"),
        ({"instruction": "i"}, None),
        ({"prompt": {"text": "q"}}, "oasst"),
        ({"text": "q", "replies": []}, "oasst"),
        ({"prompt": "p", "completion": "c"}, "prompt_completion"),
        ({"prompt": "p"}, None),
        ({"text": "t"}, "text"),
        ({"text": 1}, None),
        ({}, None),
    ],
)
def test_a_format_is_known_by_its_marks(row: dict[str, Any], name: str | None) -> None:
    assert detect_format(row) == name


def test_alpaca_joins_instruction_and_input() -> None:
    row = {"instruction": "Add.", "input": "1 2", "output": "3"}
    assert turns("alpaca", row) == [("user", "Add.\n1 2"), ("assistant", "3")]
    for empty in ("", "  ", None):
        assert turns("alpaca", {**row, "input": empty})[0] == ("user", "Add.")
    assert turns("alpaca", {"instruction": "Add.", "output": "3"})[0] == ("user", "Add.")


def test_alpaca_puts_system_and_history_first() -> None:
    row = {"instruction": "i", "output": "o", "system": "s", "history": [["q", "a"]]}
    assert turns("alpaca", row) == [
        ("system", "s"),
        ("user", "q"),
        ("assistant", "a"),
        ("user", "i"),
        ("assistant", "o"),
    ]


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ({"instruction": "i"}, "missing_field"),
        ({"instruction": "i", "output": ""}, "empty_field"),
        ({"instruction": "i", "output": " \n"}, "empty_field"),
        ({"instruction": 1, "output": "o"}, "wrong_type"),
        ({"instruction": "i", "output": "o", "input": 5}, "wrong_type"),
        ({"instruction": "i", "output": "o", "history": "h"}, "wrong_type"),
        ({"instruction": "i", "output": "o", "history": [["q"]]}, "wrong_type"),
        ({"instruction": "i", "output": "o", "history": [["q", 1]]}, "wrong_type"),
        ({"instruction": "i", "output": "o", "history": [["q", ""]]}, "empty_answer"),
    ],
)
def test_a_bad_alpaca_row_says_why(row: dict[str, Any], reason: str) -> None:
    assert refused("alpaca", row) == reason


def test_sharegpt_names_its_speakers() -> None:
    entries = [
        {"from": "human", "value": "q"},
        {"from": "function_call", "value": "{}"},
        {"from": "observation", "value": "42"},
        {"from": "gpt", "value": "a"},
    ]
    row = {"conversations": entries, "system": "s", "tools": '[{"name": "f"}]'}
    roles = [role for role, _ in turns("sharegpt", row)]
    assert roles == ["system", "user", "assistant", "tool", "assistant"]
    assert read("sharegpt", row).tools == '[{"name": "f"}]'
    assert read("sharegpt", {**row, "tools": [{"name": "f"}]}).tools == '[{"name": "f"}]'
    nothing: tuple[object, ...] = ("", "[]", [], None)
    for none in nothing:
        assert read("sharegpt", {**row, "tools": none}).tools is None


PAIR = [{"from": "human", "value": "q"}, {"from": "gpt", "value": "a"}]


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ({"conversations": []}, "wrong_type"),
        ({"conversations": ["q"]}, "wrong_type"),
        ({"conversations": [{"from": "alien", "value": "q"}]}, "unknown_role"),
        ({"conversations": [{"value": "q"}]}, "missing_field"),
        ({"conversations": [{"from": "human", "value": ""}]}, "empty_field"),
        ({"conversations": PAIR[:1]}, "no_assistant_turn"),
        ({"conversations": PAIR[1:]}, "no_user_turn"),
        ({"conversations": PAIR, "tools": "no json"}, "wrong_type"),
        ({"conversations": PAIR, "tools": '{"name": "f"}'}, "wrong_type"),
    ],
)
def test_a_bad_sharegpt_row_says_why(row: dict[str, Any], reason: str) -> None:
    assert refused("sharegpt", row) == reason


def test_openai_maps_roles_joins_parts_and_keeps_weights() -> None:
    parts = [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]
    row = {
        "messages": [
            {"role": "developer", "content": "d"},
            {"role": "user", "content": parts},
            {"role": "assistant", "content": None, "tool_calls": [{"id": "1"}], "weight": 0},
            {"role": "function", "content": "42"},
            {"role": "assistant", "content": "done", "weight": 1},
        ],
        "tools": [{"b": 1, "a": "é"}],
    }
    assert turns("openai", row) == [
        ("system", "d"), ("user", "ab"), ("assistant", '[{"id": "1"}]'), ("tool", "42"), ("assistant", "done")
    ]  # fmt: skip
    assert read("openai", row).tools == '[{"a": "é", "b": 1}]'
    assert read("openai", row).meta == {"weights": [1, 1, 0, 1, 1]}
    assert read("openai", {"messages": [USER, ANSWER]}).meta is None


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ({"messages": []}, "wrong_type"),
        ({"messages": ["q"]}, "wrong_type"),
        ({"messages": [{"content": "q"}]}, "wrong_type"),
        ({"messages": [{"role": "robot", "content": "q"}]}, "unknown_role"),
        ({"messages": [{"role": "user", "content": None}]}, "wrong_type"),
        ({"messages": [{"role": "user", "content": [{"type": "image_url"}]}]}, "unsupported_content"),
        ({"messages": [USER]}, "no_assistant_turn"),
        ({"messages": [ANSWER]}, "no_user_turn"),
        ({"messages": [USER, {**ANSWER, "content": ""}]}, "empty_answer"),
        ({"messages": [USER, {**ANSWER, "content": " \n"}]}, "empty_answer"),
        ({"messages": [USER, {**ANSWER, "content": []}]}, "empty_answer"),
        ({"messages": [USER, {**ANSWER, "content": "", "weight": 0}, USER, ANSWER]}, "empty_answer"),
        ({"messages": [USER, {**ANSWER, "weight": 0.5}]}, "wrong_type"),
        ({"messages": [USER, {**ANSWER, "weight": True}]}, "wrong_type"),
        ({"messages": [USER, ANSWER], "tools": "f"}, "wrong_type"),
        ({"messages": [USER, ANSWER], "tools": [b"f"]}, "wrong_type"),
        ({"messages": [USER, ANSWER], "tools": [math.nan]}, "wrong_type"),
    ],
)
def test_a_bad_openai_row_says_why(row: dict[str, Any], reason: str) -> None:
    assert refused("openai", row) == reason


def test_openai_keeps_empty_messages_that_nobody_learns_from() -> None:
    row = {"messages": [{"role": "system", "content": ""}, {"role": "user", "content": ""}, ANSWER]}
    assert turns("openai", row) == [("system", ""), ("user", ""), ("assistant", "a")]


def message(role: str, text: str, *replies: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"role": role, "text": text, "replies": list(replies), **more}


def test_oasst_follows_the_best_reply_to_the_last_answer() -> None:
    tree = message(
        "prompter",
        "q",
        message("assistant", "worse", rank=1),
        message("assistant", "deleted", rank=0, deleted=True),
        message("assistant", "unranked"),
        message("assistant", "best", message("prompter", "and?", message("assistant", "so")), rank=0),
    )
    expected = [("user", "q"), ("assistant", "best"), ("user", "and?"), ("assistant", "so")]
    assert turns("oasst", {"message_tree_id": "t", "prompt": tree}) == expected
    assert turns("oasst", tree) == expected
    assert read("oasst", {"message_tree_id": "t", "prompt": tree}).meta == {"tree": "t"}


def test_oasst_leaves_an_unanswered_question_out() -> None:
    tree = message("prompter", "q", message("assistant", "a", message("prompter", "unanswered")))
    assert turns("oasst", tree) == [("user", "q"), ("assistant", "a")]


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        (message("prompter", "q"), "no_assistant_turn"),
        (message("robot", "q"), "unknown_role"),
        (message("prompter", "q", message("assistant", "")), "empty_field"),
        ({"text": "q", "replies": "none"}, "wrong_type"),
        ({"prompt": {"replies": []}}, "missing_field"),
    ],
)
def test_a_bad_oasst_row_says_why(row: dict[str, Any], reason: str) -> None:
    assert refused("oasst", row) == reason


def test_prompt_and_completion_are_two_turns() -> None:
    row = {"prompt": "p", "completion": " c"}
    assert turns("prompt_completion", row) == [("user", "p"), ("assistant", " c")]
    assert refused("prompt_completion", {"prompt": "p", "completion": ""}) == "empty_field"
    assert refused("prompt_completion", {"prompt": "p"}) == "missing_field"


def test_raw_text_is_a_document_with_its_place() -> None:
    one = read("text", {"text": "t", "url": "https://a", "title": "T", "other": "x"})
    assert (one.text, one.messages, one.meta) == ("t", (), {"url": "https://a", "title": "T"})
    assert refused("text", {"text": "  "}) == "empty_field"
    assert refused("text", {"text": 4}) == "wrong_type"


def test_tools_are_json_that_can_be_read_again() -> None:
    tools = [{"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}]
    encoded = read("openai", {"messages": [USER, ANSWER], "tools": tools}).tools
    assert encoded is not None
    assert json.loads(encoded) == tools
