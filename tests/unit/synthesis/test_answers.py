from __future__ import annotations

import pytest

from anneal.synthesis.domain.answers import Unreadable, parse_items


def test_good_json_is_read_as_it_is() -> None:
    parsed = parse_items('{"pairs": [1, 2]}', "pairs", truncated=False)
    assert (parsed.items, parsed.repaired) == ([1, 2], False)


def test_a_raw_line_feed_in_a_string_is_no_fault() -> None:
    parsed = parse_items('{"pairs": ["a\nb"]}', "pairs", truncated=False)
    assert (parsed.items, parsed.repaired) == (["a\nb"], False)


def test_json_in_a_code_fence_is_mended_and_counted() -> None:
    parsed = parse_items('```json\n{"pairs": [{"a": 1},]}\n```', "pairs", truncated=False)
    assert (parsed.items, parsed.repaired) == ([{"a": 1}], True)


def test_a_cut_answer_loses_the_item_that_was_cut() -> None:
    parsed = parse_items('{"pairs": [{"a": "x"}, {"a": "half of', "pairs", truncated=True)
    assert (parsed.items, parsed.repaired) == ([{"a": "x"}], True)


def test_an_answer_that_is_whole_at_its_limit_loses_nothing() -> None:
    assert parse_items('{"pairs": [1]}', "pairs", truncated=True).items == [1]


@pytest.mark.parametrize(
    ("text", "truncated", "cause"),
    [
        ("", False, "empty_answer"),
        (" \n", True, "empty_answer"),
        ('{"pairs": [{"a": "half', True, "truncated_answer"),
        ('{"pa', True, "truncated_answer"),
        ("I cannot help with that.", False, "malformed_answer"),
        ('{"pairs": []}', False, "malformed_answer"),
        ('{"pairs": "x"}', False, "malformed_answer"),
        ('{"other": [1]}', False, "malformed_answer"),
        ("[1]", False, "malformed_answer"),
    ],
)
def test_an_unreadable_answer_says_why(text: str, truncated: bool, cause: str) -> None:
    with pytest.raises(Unreadable) as caught:
        parse_items(text, "pairs", truncated=truncated)
    assert caught.value.cause == cause


def test_json_nested_without_end_is_unreadable_and_nothing_breaks() -> None:
    with pytest.raises(Unreadable):
        parse_items("[" * 100_000, "pairs", truncated=False)
