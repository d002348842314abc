from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest

from anneal.curation.domain.steps.base import WrongSetting
from anneal.curation.domain.steps.language import Language
from anneal.curation.domain.steps.refusals import Refusals
from anneal.curation.domain.steps.symbols import Symbols
from tests.unit.curation.rows import asked, judged, reasons, said

ENGLISH = "The committee has decided that the old bridge will be closed until the end of the year."
GERMAN = "Der Ausschuss hat beschlossen, dass die alte Brücke bis zum Ende des Jahres gesperrt bleibt."
JAPANESE = "委員会は古い橋を年末まで閉鎖することを決定しました。市民は別の道を使わなければなりません。"


def test_languages_outside_the_list_leave() -> None:
    rows = [asked("x", text) for text in (ENGLISH, GERMAN, JAPANESE)]
    assert reasons(Language(allowed=("en",)), *rows) == ["", "wrong_language", "wrong_language"]
    assert reasons(Language(allowed=("en", "de")), *rows) == ["", "", "wrong_language"]
    (removal,) = judged(Language(allowed=("en",)), rows[1])
    assert removal is not None
    assert removal.numbers["language"] == "de"
    assert removal.numbers["confidence"] > 0.8


def test_what_cannot_be_told_passes() -> None:
    step = Language(allowed=("en",), min_letters=20)
    assert (
        reasons(step, asked("x", "Guten Morgen"), asked("x", "12 + 30 = 42 " * 20), asked(GERMAN, ""), said())
        == [""] * 4
    )
    code = f"```\n{GERMAN}\n```"
    assert reasons(step, asked("x", f"{ENGLISH}\n{code}"), asked("x", code)) == ["", ""]


def test_both_sides_of_a_languages_limits() -> None:
    (sure,) = judged(Language(allowed=("en",), min_confidence=0), asked("x", "Guten Morgen, liebe Leute"))
    assert sure is not None
    letters = sum(map(str.isalpha, "Guten Morgen, liebe Leute"))
    row, certain = asked("x", "Guten Morgen, liebe Leute"), sure.numbers["confidence"]
    assert reasons(Language(allowed=("en",), min_confidence=0, min_letters=letters), row) == ["wrong_language"]
    assert reasons(Language(allowed=("en",), min_confidence=0, min_letters=letters + 1), row) == [""]
    assert reasons(Language(allowed=("en",), min_confidence=certain - 0.001), row) == ["wrong_language"]
    assert reasons(Language(allowed=("en",), min_confidence=certain + 0.001), row) == [""]


def test_the_model_waits_for_the_first_row() -> None:
    code = "import sys; from anneal.curation.domain.steps import STEPS; STEPS['language'](allowed=('en',));"
    done = subprocess.run(
        [sys.executable, "-c", f"{code} print('py3langid' in sys.modules)"], capture_output=True, check=True
    )
    assert done.stdout.strip() == b"False"


WORDS = ["the", "work", "of", "people", "that", "have", "been", "with", "us"] * 10  # 90 words, mean 3.7 characters
NONE: dict[str, Any] = {
    "max_hashes_per_word": None,
    "max_ellipses_per_word": None,
    "max_bullet_lines": None,
    "max_ellipsis_lines": None,
    "min_alphabetic_words": None,
    "min_word_characters": None,
    "max_word_characters": None,
    "min_stop_words": None,
}


@pytest.mark.parametrize(
    ("limit", "inside", "outside", "reason"),
    [
        ({"max_hashes_per_word": 0.1}, ["#a"] * 9 + WORDS[:81], ["#a"] * 10 + WORDS[:80], "too_many_hashes"),
        ({"max_ellipses_per_word": 0.1}, ["a..."] * 9 + WORDS[:81], ["a\u2026"] * 10 + WORDS[:80], "too_many_ellipses"),
        ({"min_alphabetic_words": 0.8}, ["1"] * 18 + WORDS[:72], ["1"] * 19 + WORDS[:71], "too_few_alphabetic_words"),
        ({"min_word_characters": 3}, ["abc"] * 90, ["abc"] * 89 + ["ab"], "words_too_short"),
        ({"max_word_characters": 10}, ["a" * 10] * 90, ["a" * 10] * 89 + ["a" * 11], "words_too_long"),
        ({"min_stop_words": 2}, [ENGLISH] * 9, ["My cat likes fish, your dog likes meat. "] * 9, "too_few_stop_words"),
    ],
)
def test_shares_of_words(limit: dict[str, float], inside: list[str], outside: list[str], reason: str) -> None:
    step = Symbols(**(NONE | limit))
    assert reasons(step, asked("x", " ".join(inside)), asked("x", " ".join(outside))) == ["", reason]
    assert reasons(step, asked(" ".join(outside), "x")) == [""]


def test_shares_of_lines() -> None:
    line = "the people of that town"
    step = Symbols(**(NONE | {"max_bullet_lines": 0.9, "max_ellipsis_lines": 0.3}))
    texts = (
        [f"- {line}"] * 18 + [line] * 2,
        [f"* {line}"] * 19 + [line],
        [f"{line}..."] * 6 + [line] * 14,
        [f"{line}\u2026"] * 7 + [line] * 13,
        [f"- {line}"] * 19 + [line, "", "", ""],
    )
    assert reasons(step, *(asked("x", "\n".join(text)) for text in texts)) == [
        "", "too_many_bullets", "", "too_many_ellipsis_lines", "too_many_bullets"
    ]  # fmt: skip


def test_good_text_passes_and_short_text_too() -> None:
    headings = "\n".join(f"### Part {n}\n{ENGLISH}" for n in range(9))
    rows = [headings, " ".join([ENGLISH] * 9), " ".join([GERMAN] * 9), "# " * 49, "```\n" + "#! ... {}\n" * 99 + "```"]
    rows.append(" ".join([JAPANESE] * 60))
    assert reasons(Symbols(), *(asked("x", row) for row in rows)) == [""] * 6
    assert reasons(Symbols(), asked("x", "#a " * 49), asked("x", "#a " * 50)) == ["", "too_many_hashes"]


@pytest.mark.parametrize(
    "answer",
    [
        "I cannot assist with that request.",
        "I'm sorry, but I can\u2019t help with that.",
        "I am sorry, but as an AI language model, I cannot provide legal advice.",
        "Sorry, I'm not able to generate that kind of content.",
        "Unfortunately, I am unable to fulfill this request.",
        "I apologize, but I must decline to answer that.",
        "Thank you for asking! I won't be able to help with this.",
        "It is not appropriate for me to comment on this.",
        "As a large language model, I'm not programmed to assist with that.",
    ],
)
def test_refusals_as_a_whole(answer: str) -> None:
    assert reasons(Refusals(), asked("x", answer)) == ["refusal"]
    assert reasons(Refusals(refusals=False, phrases=("zzz",), boilerplate=False), asked("x", answer)) == [""]


@pytest.mark.parametrize(
    "answer",
    [
        "As an AI language model, I think that Paris is lovely.",
        "Great question! As an AI assistant and language model, I like maps.",
        "As of my last knowledge update in 2021, it has three wheels.",
        "Well, I'm just an AI, but the answer is 4.",
        "I don't have personal opinions, but many prefer tea.",
    ],
)
def test_boilerplate_in_the_opening(answer: str) -> None:
    late = "This is how it goes. " * 20 + answer
    assert reasons(Refusals(), asked("x", answer), asked("x", late)) == ["assistant_boilerplate", ""]
    assert reasons(Refusals(boilerplate=False), asked("x", answer)) == [""]


@pytest.mark.parametrize(
    "answer",
    [
        "You cannot assist a player who is offside.",
        "The error means: I cannot open the file. Check the path.",
        "He said he was sorry, but he could not help.",
        "AI is a field of computer science. A language model predicts words.",
        "I can help with that: press F1.",
        "Use `can't_help()` to raise.",
        "",
    ],
)
def test_other_answers_do_not_refuse(answer: str) -> None:
    assert reasons(Refusals(), asked("As an AI language model, I cannot assist with that.", answer)) == [""]


def test_a_refusals_length_has_two_sides() -> None:
    words = "I cannot help with that, but " + " ".join(f"word{n}" for n in range(94))
    assert reasons(Refusals(), asked("x", words), asked("x", f"{words} more")) == ["refusal", ""]


def test_ones_own_phrases_open_the_answer() -> None:
    step = Refusals(phrases=("Sure (of course)!",))
    assert reasons(step, asked("x", "SURE (of course)! Here."), asked("x", "Not so. Sure (of course)!")) == [
        "assistant_boilerplate",
        "",
    ]


@pytest.mark.parametrize(
    ("make", "field"),
    [
        (lambda: Language(allowed=()), "allowed"),
        (lambda: Language(allowed=("en", "xx")), "allowed[1]"),
        (lambda: Language(allowed=("en",), min_confidence=1.1), "min_confidence"),
        (lambda: Language(allowed=("en",), min_letters=0), "min_letters"),
        (lambda: Symbols(max_bullet_lines=1.1), "max_bullet_lines"),
        (lambda: Symbols(max_hashes_per_word=-1), "max_hashes_per_word"),
        (lambda: Symbols(min_word_characters=11), "max_word_characters"),
        (lambda: Symbols(min_stop_words=9), "min_stop_words"),
        (lambda: Symbols(min_words=0), "min_words"),
        (lambda: Symbols(**NONE), "max_hashes_per_word"),
        (lambda: Refusals(refusals=False, boilerplate=False), "refusals"),
        (lambda: Refusals(max_refusal_words=0), "max_refusal_words"),
        (lambda: Refusals(phrases=("a", " ")), "phrases[1]"),
    ],
)
def test_impossible_settings_name_their_field(make, field: str) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(WrongSetting) as wrong:
        make()
    assert wrong.value.field == field
