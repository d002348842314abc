"""Rows held against a tokenizer."""

from __future__ import annotations

from typing import Any

import pytest
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from anneal.training.domain.tokenizer_fit import fit_of, script_of
from tests.fixtures.tiny_model import tokenizer


def words(*known: str) -> Any:
    raw = Tokenizer(models.WordLevel({"[UNK]": 0, **{w: i + 1 for i, w in enumerate(known)}}, unk_token="[UNK]"))
    raw.pre_tokenizer = pre_tokenizers.Whitespace()
    return PreTrainedTokenizerFast(tokenizer_object=raw, unk_token="[UNK]")


@pytest.mark.parametrize(
    ("text", "script"),
    [
        ("Straße, naïve", "latin"),
        ("Привет, user", "cyrillic"),
        ("这是一个问题", "han"),
        ("これは質問です", "kana"),
        ("한국어 문장", "hangul"),
        ("مرحبا بالعالم", "arabic"),
        ("नमस्ते", "devanagari"),
        ("สวัสดี", "thai"),
        ("12 + 30 = 42", "other"),
        ("", "other"),
    ],
)
def test_the_script_of_most_letters(text: str, script: str) -> None:
    assert script_of(text) == script


def test_bytes_instead_of_words_are_counted_by_script_and_warned_about() -> None:
    english, chinese = "The function returns the value of an argument.", "这个函数返回参数的值"
    fit = fit_of(tokenizer(), [[english], [chinese], [chinese]])
    assert [one.script for one in fit.scripts] == ["latin", "han"]
    latin, han = fit.scripts
    assert (han.num_rows, han.num_characters, han.num_tokens) == (2, 20, 60), "three bytes a character"
    assert latin.tokens_per_character < 1
    assert fit.num_characters == len(english) + 20
    assert [w for w in fit.warnings() if "2 rows in han letters take 3.0 tokens a character" in w]
    assert not [w for w in fit.warnings() if "latin" in w]
    assert fit.unknown_share == 0


def test_unknown_tokens_are_counted_and_warned_about() -> None:
    fit = fit_of(words("a", "b"), [["a b a b a b", "a b zebra b"]])
    assert fit.num_tokens == 10
    assert fit.unknown_share == pytest.approx(0.1)
    assert any("10.0% of the tokens" in warning for warning in fit.warnings())
    assert not fit_of(words("a", "b"), [["a b"]]).warnings()


def test_digits_in_a_token() -> None:
    assert fit_of(words("123", "45", "a"), [["a 123 45"]]).digits_per_token == pytest.approx(2.5)
    assert fit_of(words("a"), [["a a"]]).digits_per_token == 0
    assert fit_of(words("a"), [[""], []]).num_tokens == 0
