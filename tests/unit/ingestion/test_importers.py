"""Each row format: what its rows become, and the reason a row that cannot be used leaves with."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest

from anneal.ingestion.adapters.importers import IMPORTERS, detect_format
from anneal.ingestion.adapters.importers.base import BadRow, Imported, Joiner

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
        ({"messages": '[{"role": "user"}]'}, "openai"),
        ({"messages": [], "label": False}, "kto"),
        ({"messages": [], "label": "spam"}, "openai"),
        ({"messages": [], "label": 1}, None),
        ({"messages": [], "conversations": []}, None),
        ({"conversations": [{"from": "human", "value": "q"}], "chosen": {}, "rejected": {}}, "preference"),
        ({"conversations": [{"from": "gpt", "value": "a"}], "chosen": {}, "rejected": {}}, None),
        ({"prompt": "p", "completion": "c", "label": True}, "kto"),
        ({"prompt": "p", "completion": "c", "label": "toxic"}, "prompt_completion"),
        ({"prompt": "p", "completion": "c", "label": 0}, None),
        ({"prompt": "p", "chosen": "c", "rejected": "r"}, "preference"),
        ({"prompt": "p", "completion": "c", "chosen": "c", "rejected": "r"}, None),
        ({"input": {}, "preferred_output": [], "non_preferred_output": []}, "openai_preference"),
        ({"question": "q", "answer": "a"}, "question_answer"),
        ({"question": "q", "answer": 2, "choices": ["a", "b", "c"]}, None),
        ({"question": "q", "answer": "b", "choices": ["a", "b", "c"]}, None),
        ({"question": "q", "response": "a"}, "question_response"),
        ({"query": "q", "response": "a"}, "query_response"),
        ({"instruction": "q", "response": "a", "context": ""}, "instruction_response"),
        ({"instruction": "q", "output": "a", "response": "b"}, None),
        ({"instruction": "q", "output": "a", "text": "both"}, "alpaca"),
        ({"message_id": "m", "parent_id": None, "text": "t", "role": "prompter"}, "oasst_flat"),
        ({"content": "c", "link": "https://a"}, "articles"),
        ({"content": "c"}, None),
        ({"content": "c", "role": "user", "title": "t"}, None),
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
        assert turns("alpaca", {**row, "instruction": empty})[0] == ("user", "1 2")
    assert turns("alpaca", {"instruction": "Add.", "inputs": "1 2", "output": "3"})[0] == ("user", "Add.\n1 2")
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
        ({"instruction": " ", "input": "", "output": "o"}, "empty_field"),
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
        {"from": "function_call", "value": '{"name": "f", "arguments": {"n": 6}}'},
        {"from": "observation", "value": "42"},
        {"from": "gpt", "value": "a"},
    ]
    row = {"conversations": entries, "system": "s", "tools": '[{"name": "f"}]'}
    roles = [role for role, _ in turns("sharegpt", row)]
    assert roles == ["system", "user", "assistant", "tool", "assistant"]
    assert read("sharegpt", row).messages[2] == {
        **{"role": "assistant", "content": None},
        "tool_calls": [{"name": "f", "arguments": '{"n": 6}'}],
    }
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
        ({"conversations": [{"value": "q"}]}, "wrong_type"),
        ({"conversations": [{"from": "human"}]}, "wrong_type"),
        ({"conversations": [*PAIR, {"from": "function_call", "value": "look it up"}]}, "bad_tool_call"),
        ({"conversations": [*PAIR, {"from": "function_call", "value": '{"arguments": {}}'}]}, "bad_tool_call"),
        ({"conversations": PAIR[:1]}, "no_assistant_turn"),
        ({"conversations": PAIR[1:]}, "no_user_turn"),
        ({"conversations": PAIR, "tools": "no json"}, "wrong_type"),
        ({"conversations": PAIR, "tools": '{"name": "f"}'}, "wrong_type"),
    ],
)
def test_a_bad_sharegpt_row_says_why(row: dict[str, Any], reason: str) -> None:
    assert refused("sharegpt", row) == reason


def test_openai_maps_roles_joins_parts_and_keeps_weights() -> None:
    parts = [{"type": "text", "text": "a"}, {"type": "text", "value": "b"}]
    row = {
        "messages": [
            {"role": "developer", "content": "d"},
            {"role": "user", "content": parts, "name": "kim"},
            {"role": "assistant", "content": None, "tool_calls": [{"id": "1", "function": {"name": "f"}}], "weight": 0},
            {"role": "function", "content": "42", "name": "f"},
            {"role": "assistant", "content": "done", "weight": 0.5},
        ],
        "tools": [{"b": 1, "a": "é"}],
    }
    assert list(read("openai", row).messages) == [
        {"role": "system", "content": "d"},
        {"role": "user", "content": "ab", "name": "kim"},
        {
            **{"role": "assistant", "content": None, "weight": 0.0},
            "tool_calls": [{"id": "1", "name": "f", "arguments": "{}"}],
        },
        {"role": "tool", "content": "42", "name": "f"},
        {"role": "assistant", "content": "done", "weight": 0.5},
    ]
    assert read("openai", row).tools == '[{"a": "é", "b": 1}]'
    assert not read("openai", {"messages": [USER, ANSWER]}).meta


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
        ({"messages": [USER, {**ANSWER, "weight": -1}]}, "wrong_type"),
        ({"messages": [USER, {**ANSWER, "weight": "no"}]}, "wrong_type"),
        ({"messages": [USER, {**ANSWER, "weight": math.inf}]}, "wrong_type"),
        ({"messages": [USER, {**ANSWER, "weight": 1, "train": False}]}, "conflicting_marks"),
        ({"messages": [USER, {**ANSWER, "weight": 0}]}, "no_learned_turn"),
        ({"messages": [USER, {**ANSWER, "train_detail": [{"begin": 0}]}]}, "unsupported_mark"),
        ({"messages": [USER, {**ANSWER, "tool_calls": [{"function": {}}]}]}, "bad_tool_call"),
        ({"messages": [USER, {**ANSWER, "tool_calls": [{"name": "f", "arguments": "{"}]}]}, "bad_tool_call"),
        ({"messages": [USER, ANSWER], "label": False}, "unwanted_answer"),
        ({"messages": [USER, ANSWER], "images": ["a.png"]}, "unsupported_content"),
        ({"messages": [{**USER, "content": "<audio>What is said?"}, ANSWER]}, "unsupported_content"),
        ({"messages": [{**USER, "content": "Look:\n<image>\nWhat is it?"}, ANSWER]}, "unsupported_content"),
        ({"messages": [{**USER, "content": "<|vision_start|>What?"}, ANSWER]}, "unsupported_content"),
        ({"messages": [{"role": "system", "content": "s"}, USER, ANSWER], "system": "t"}, "two_system_turns"),
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


@pytest.mark.parametrize("mark", ["weight", "loss_weight", "loss", "train"])
@pytest.mark.parametrize("name", ["openai", "sharegpt"])
def test_marks_on_turns_become_weights_in_every_format(name: str, mark: str) -> None:
    field = "messages" if name == "openai" else "conversations"
    wrong, right = {"role": "assistant", "content": "wrong", mark: False}, {"from": "gpt", "value": "a", mark: True}
    told = read(name, {field: [USER, wrong, USER, right]}).messages
    assert [message.get("weight") for message in told] == [None, 0.0, None, 1.0]


def test_reasoning_is_taken_from_its_field_from_parts_and_from_think() -> None:
    thought = {"role": "assistant", "content": "No.", "reasoning": "7 * 13"}
    parts = [{"type": "thinking", "thinking": [{"type": "text", "text": "7 * 13"}]}, {"type": "text", "text": "No."}]
    for answer in (
        {"role": "assistant", "content": "<think>\n7 * 13\n</think>\n\nNo."},
        {"role": "assistant", "content": "No.", "reasoning_content": "7 * 13"},
        {"role": "assistant", "content": "No.", "thinking": "7 * 13", "reasoning": None},
        {"role": "assistant", "content": parts},
    ):
        assert read("openai", {"messages": [USER, answer]}).messages[1] == thought
    told = {"question": "q", "answer": "No.", "reasoning": "7 * 13"}
    assert read("question_answer", told).messages[1] == thought
    assert read("alpaca", {"instruction": "q", "output": "<think>7 * 13</think>No."}).messages[1] == thought
    asked = {"role": "user", "content": "<think>is a tag</think> of what?"}
    assert read("openai", {"messages": [asked, ANSWER]}).messages[0] == asked
    assert (
        read("openai", {"messages": [USER, {**ANSWER, "content": "<think>cut"}]}).messages[1]["content"] == "<think>cut"
    )


def test_text_before_a_call_and_calls_side_by_side_are_one_turn() -> None:
    entries = [
        {"from": "human", "value": "q"},
        {"from": "gpt", "value": "Let me look."},
        {"from": "function_call", "value": '[{"name": "f", "arguments": "{\\"n\\":1}"}, {"name": "g"}]'},
        {"from": "observation", "value": "1"},
        {"from": "observation", "value": "2"},
        {"from": "gpt", "value": "a"},
    ]
    told = read("sharegpt", {"conversations": entries}).messages
    assert [message["role"] for message in told] == ["user", "assistant", "tool", "tool", "assistant"]
    assert told[1]["content"] == "Let me look."
    assert told[1]["tool_calls"] == [{"name": "f", "arguments": '{"n":1}'}, {"name": "g", "arguments": "{}"}]


def test_what_no_message_holds_is_kept() -> None:
    row = {"messages": [USER, {**ANSWER, "timestamp": 17, "rank": None}]}
    assert read("openai", row).meta == {"message_fields": {"1": {"timestamp": 17}}}


def test_a_tag_in_a_text_about_tags_is_no_placeholder() -> None:
    for text in ("How do I use the <image> element in SVG?", "`<video>` plays what?", "<img src='a.png'> shows what?"):
        assert read("openai", {"messages": [{"role": "user", "content": text}, ANSWER]}).messages[0]["content"] == text


def test_a_context_comes_before_its_question() -> None:
    row = {"question": "How many?", "context": "CREATE TABLE t (n INT)", "answer": "SELECT COUNT(*) FROM t"}
    assert turns("question_answer", row)[0] == ("user", "CREATE TABLE t (n INT)\n\nHow many?")
    assert turns("question_answer", {**row, "context": ""})[0] == ("user", "How many?")


WANTED, UNWANTED = [{"role": "assistant", "content": "yes"}], [{"role": "assistant", "content": "no"}]


@pytest.mark.parametrize(
    ("name", "row"),
    [
        ("preference", {"prompt": "q", "chosen": "yes", "rejected": "no"}),
        ("preference", {"prompt": [USER], "chosen": WANTED, "rejected": UNWANTED}),
        ("preference", {"chosen": [USER, *WANTED], "rejected": [USER, *UNWANTED]}),
        ("preference", {"prompt": "q", "chosen": [USER, *WANTED], "rejected": [USER, *UNWANTED]}),
        ("preference", {"prompt": "q", "chosen": json.dumps(WANTED), "rejected": json.dumps(UNWANTED)}),
        ("preference", {"instruction": "q", "input": "", "chosen": "yes", "rejected": "no"}),
        (
            "preference",
            {
                "conversations": [{"from": "human", "value": "q"}],
                "chosen": {"from": "gpt", "value": "yes"},
                "rejected": {"from": "gpt", "value": "no"},
            },
        ),
        (
            "openai_preference",
            {"input": {"messages": [USER]}, "preferred_output": WANTED, "non_preferred_output": UNWANTED},
        ),
    ],
)
def test_every_form_of_a_preference_becomes_the_same(name: str, row: dict[str, Any]) -> None:
    one = read(name, row)
    assert (list(one.messages), list(one.chosen or ()), list(one.rejected or ())) == ([USER], WANTED, UNWANTED)


def test_a_labelled_answer_is_a_preference_with_one_side() -> None:
    for row in (
        {"prompt": "q", "completion": "no", "label": False},
        {"prompt": "q", "completion": "no", "label": "False"},
        {"messages": [USER, *UNWANTED], "label": False},
        {"instruction": "q", "output": "no", "kto_tag": False},
    ):
        one = read("kto", row)
        assert (list(one.messages), one.chosen, list(one.rejected or ())) == ([USER], None, UNWANTED)
    one = read("kto", {"prompt": "q", "completion": "yes", "label": True})
    assert (list(one.chosen or ()), one.rejected) == (WANTED, None)


@pytest.mark.parametrize(
    ("name", "row", "reason"),
    [
        ("preference", {"prompt": "q", "chosen": "a", "rejected": "a"}, "equal_answers"),
        ("preference", {"prompt": "q", "chosen": "", "rejected": None}, "missing_field"),
        ("preference", {"chosen": "a", "rejected": "b"}, "missing_field"),
        ("preference", {"prompt": "q", "chosen": [USER], "rejected": "b"}, "no_assistant_turn"),
        ("preference", {"prompt": [USER, ANSWER], "chosen": "a", "rejected": "b"}, "answered_prompt"),
        ("preference", {"prompt": "other", "chosen": [USER, *WANTED], "rejected": [USER, *UNWANTED]}, "two_prompts"),
        ("preference", {"prompt": "q", "chosen": "a", "rejected": "b", "margin": "much"}, "wrong_type"),
        ("kto", {"prompt": "q", "completion": "a", "label": None}, "missing_field"),
        ("kto", {"prompt": "q", "completion": "", "label": True}, "empty_field"),
    ],
)
def test_a_bad_preference_says_why(name: str, row: dict[str, Any], reason: str) -> None:
    assert refused(name, row) == reason


def flat(name: str, parent: str | None, role: str, text: str, **more: Any) -> dict[str, Any]:
    return {"message_id": name, "parent_id": parent, "role": role, "text": text, **more}


def test_a_flat_table_is_joined_by_its_parents_in_any_order() -> None:
    rows = [
        flat("c", "b", "prompter", "and the shade?"),
        flat("d", "c", "assistant", "softly"),
        flat("b", "a", "assistant", "dry", rank=0.0),
        flat("x", "a", "assistant", "wet", rank=1.0),
        flat("a", None, "prompter", "how?"),
        flat("o", "gone", "assistant", "lost"),
        flat("p", "o", "prompter", "lost too"),
        flat("a", None, "prompter", "again"),
    ]
    importer = IMPORTERS["oasst_flat"]
    assert isinstance(importer, Joiner)
    found: dict[int, Any] = dict(importer.join(enumerate(rows)))
    assert {number: row.reason for number, row in found.items() if isinstance(row, BadRow)} == {
        **{5: "parent_missing", 6: "parent_missing"},
        7: "double_message",
    }
    tree = found[4]
    assert not isinstance(tree, BadRow)
    (one,) = importer.read(tree)
    assert [message["content"] for message in one.messages] == ["how?", "dry", "and the shade?", "softly"]
    assert one.meta == {"other_replies": 1}


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
    assert read("oasst", {"message_tree_id": "t", "prompt": tree}).meta == {"tree": "t", "other_replies": 3}


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
    one = read("text", {"text": "t", "url": "https://a", "title": "T", "language": "en", "license": 4})
    assert (one.text, one.messages, one.uri, one.title, one.language) == ("t", (), "https://a", "T", "en")
    assert one.meta == {"license": 4}
    assert refused("text", {"text": "  "}) == "empty_field"
    assert refused("text", {"text": 4}) == "wrong_type"
    assert read("articles", {"content": "c", "link": "https://a"}).uri == "https://a"


def test_tools_are_json_that_can_be_read_again() -> None:
    tools = [{"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}]
    encoded = read("openai", {"messages": [USER, ANSWER], "tools": tools}).tools
    assert encoded is not None
    assert json.loads(encoded) == tools
