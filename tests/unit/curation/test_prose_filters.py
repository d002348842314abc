from __future__ import annotations

import subprocess
import sys
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from anneal.curation.domain.spans import Spans
from anneal.curation.domain.steps import STEPS
from anneal.curation.domain.steps.base import Removal, RowFilter, WrongSetting
from anneal.curation.domain.steps.format import Format
from anneal.curation.domain.steps.keywords import Keywords
from anneal.curation.domain.steps.language import LANGUAGES, Language, _identifier
from anneal.curation.domain.steps.length import Length
from anneal.curation.domain.steps.pii_filter import PiiFilter
from anneal.curation.domain.steps.refusals import Refusals
from anneal.curation.domain.steps.repetition import DUPLICATE, TOP, Repetition
from anneal.curation.domain.steps.symbols import Symbols
from anneal.kit.records import DOCUMENT, document
from tests.unit.curation.rows import asked, batch_of, judged, reasons, said

ENGLISH = "The committee has decided that the old bridge will be closed until the end of the year."
GERMAN = "Der Ausschuss hat beschlossen, dass die alte Brücke bis zum Ende des Jahres gesperrt bleibt."
JAPANESE = "委員会は古い橋を年末まで閉鎖することを決定しました。市民は別の道を使わなければなりません。"


def distinct(count: int, start: int = 0) -> list[str]:
    """Words of six letters, each once."""
    return [
        f"w{chr(97 + n // 676 % 26)}{chr(97 + n // 26 % 26)}{chr(97 + n % 26)}xy" for n in range(start, start + count)
    ]


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


def test_the_languages_known_are_the_models() -> None:
    assert set(_identifier().labels) - {"zxx"} == LANGUAGES


def test_the_model_waits_for_the_first_row() -> None:
    code = "import sys; from anneal.curation.domain.steps import STEPS; STEPS['language'](allowed=('en',));"
    done = subprocess.run(
        [sys.executable, "-c", f"{code} print('py3langid' in sys.modules)"], capture_output=True, check=True
    )
    assert done.stdout.strip() == b"False"


def test_short_answers_may_repeat_themselves() -> None:
    words = ["yes"] * 50
    assert reasons(Repetition(), asked("x", " ".join(words[:49])), asked("x", " ".join(words))) == ["", "top_ngrams"]
    assert reasons(Repetition(), asked(" ".join(words), "x")) == [""]
    assert reasons(Repetition(part="prompt"), asked(" ".join(words), "x")) == ["top_ngrams"]


def test_lines_that_stood_before() -> None:
    lines = [" ".join(distinct(10, 10 * n)) for n in range(10)]
    fine, many = [*lines[:7], *lines[:3]], [*lines[:6], *lines[:4]]
    wide = Repetition(max_duplicate_line_characters=1.0, scale=10)
    assert reasons(wide, asked("x", "\n".join(fine)), asked("x", "\n".join(many))) == ["", "duplicate_lines"]
    (removal,) = judged(Repetition(), asked("x", "\n".join(fine)))
    assert removal == Removal("duplicate_line_characters", {"share": 0.3, "max_duplicate_line_characters": 0.2})
    rules = "\n".join(word for line in lines for word in (line, "---", "}"))
    assert reasons(Repetition(), asked("x", rules)) == [""]


def test_paragraphs_that_stood_before() -> None:
    parts = ["\n".join((" ".join(distinct(6, 12 * n)), " ".join(distinct(6, 12 * n + 6)))) for n in range(10)]
    step = Repetition(
        max_duplicate_lines=1, max_duplicate_line_characters=1, max_duplicate_paragraph_characters=1, scale=10
    )
    rows = [asked("x", "\n\n".join([*parts[:7], *parts[:3]])), asked("x", "\n\n".join([*parts[:6], *parts[:4]]))]
    assert reasons(step, *rows) == ["", "duplicate_paragraphs"]
    (removal,) = judged(Repetition(max_duplicate_lines=1, max_duplicate_line_characters=1, scale=10), rows[0])
    assert removal == Removal(
        "duplicate_paragraph_characters", {"share": 0.3, "max_duplicate_paragraph_characters": 0.2}
    )


@pytest.mark.parametrize("n", TOP)
def test_the_top_ngram_has_its_share(n: int) -> None:
    # All words have six letters: 100 words, of which the n-gram is a share of exactly k * n per cent.
    phrase, times = distinct(n), int(TOP[n] * 100 / n)

    def text(k: int) -> str:
        words = distinct(100 - k * n, 500)
        for at in range(k):
            words[at * (n + 3) : at * (n + 3)] = phrase
        return " ".join(words)

    spans = Spans(pa.array([text(times), text(times + 1)], pa.large_string()))
    assert np.allclose(spans.shares(n)[0], [times * n / 100, (times + 1) * n / 100])
    assert times * n / 100 <= TOP[n] < (times + 1) * n / 100
    (removal,) = judged(Repetition(), asked("x", text(times + 1)))
    assert removal is not None
    assert removal.reason == "top_ngrams"


@pytest.mark.parametrize("n", DUPLICATE)
def test_duplicate_ngrams_have_their_share(n: int) -> None:
    # A passage of m words that stands twice in 1,000 words: m per mille stood before, for every n up to m.
    def text(m: int) -> str:
        words = distinct(1_000 - m)
        return " ".join([*words, *words[:m]])

    most = round(DUPLICATE[n] * 1_000)
    spans = Spans(pa.array([text(most), text(most + 1)], pa.large_string()))
    assert np.allclose(spans.shares(n)[1], [most / 1_000, (most + 1) / 1_000])
    # Of all its limits the last, for 10 words, is the lowest.
    assert reasons(Repetition(), asked("x", text(100)), asked("x", text(101))) == ["", "duplicate_ngrams"]
    assert reasons(Repetition(scale=1.5), asked("x", text(150)), asked("x", text(151))) == ["", "duplicate_ngrams"]


def test_code_may_repeat_itself() -> None:
    code = "```python\n" + "x = x + 1\n" * 100 + "```"
    prose = " ".join(distinct(60))
    assert reasons(Repetition(), asked("x", f"{prose}\n{code}"), asked("x", f"{prose}\n{code[10:-3]}")) == [
        "",
        "duplicate_lines",
    ]


def shares_by_hand(text: str, n: int) -> tuple[float, float]:
    words = text.split(" ") if text else []
    total = max(sum(map(len, words)), 1)
    seen: dict[tuple[str, ...], int] = {}
    covered: set[int] = set()
    for at in range(len(words) - n + 1):
        gram = tuple(words[at : at + n])
        seen[gram] = seen.get(gram, 0) + 1
        if seen[gram] > 1:
            covered.update(range(at, at + n))
    top = max((count * sum(map(len, gram)) for gram, count in seen.items() if count > 1), default=0)
    lengths: list[int] = [len(words[at]) for at in covered]
    return min(top / total, 1.0), sum(lengths) / total


@given(
    st.lists(st.lists(st.sampled_from(["a", "bb", "éé", "日本"]), max_size=12).map(" ".join), max_size=5),
    st.integers(2, 10),
)
def test_shares_are_those_counted_by_hand(texts: list[str], n: int) -> None:
    top, duplicate = Spans(pa.array(texts, pa.large_string())).shares(n)
    expected = [shares_by_hand(text, n) for text in texts]
    assert np.allclose(top, [by_hand for by_hand, _ in expected])
    assert np.allclose(duplicate, [by_hand for _, by_hand in expected])


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
    words = "I cannot help with that, but " + " ".join(distinct(94))
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
        (lambda: Repetition(max_duplicate_lines=1.1), "max_duplicate_lines"),
        (lambda: Repetition(scale=0), "scale"),
        (lambda: Repetition(min_words=0), "min_words"),
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


EVERY: tuple[RowFilter, ...] = (
    Format(truncated=True),
    Keywords(exclude=("secret", "big dog")),
    Language(allowed=("en",)),
    Length(min_answer_tokens=2, max_conversation_words=500, max_prompt_characters=10_000),
    PiiFilter(),
    Refusals(),
    Repetition(min_words=5),
    Symbols(min_words=5),
)
STRANGE = (
    "",
    " \n\t ",
    "😀" * 300,
    "a" * 1_000_000,
    "no " * 300_000,
    "\x00\x00",
    "\u200b" * 100,
    "日本語" * 100,
    "\n" * 10_000,
)


@pytest.mark.parametrize("step", EVERY, ids=lambda step: type(step).__name__)
def test_strange_rows_are_judged(step: RowFilter) -> None:
    rows = [asked(text, text) for text in STRANGE] + [said(), said(("user", "x"))]
    removals = step.judge(batch_of(rows))
    assert set(removals) <= set(range(len(rows)))
    assert step.judge(batch_of([])) == {}
    documents = pa.RecordBatch.from_pylist([document(text, uri="a") for text in STRANGE], schema=DOCUMENT)
    assert set(step.judge(documents)) <= set(range(len(STRANGE)))
    assert step.judge(documents.slice(0, 0)) == {}


TEXTS = st.lists(
    st.sampled_from(
        [ENGLISH, GERMAN, "secret", "\n", "#", "...", "- ", "I cannot help.", "a@example.com", "日本語", "```"]
    )
    | st.text(max_size=4),
    max_size=12,
).map(" ".join)


@pytest.mark.parametrize("step", EVERY, ids=lambda step: type(step).__name__)
@given(st.lists(st.tuples(TEXTS, TEXTS), max_size=6), st.data())
def test_no_verdict_depends_on_the_batch(step: RowFilter, texts: list[tuple[str, str]], data: st.DataObject) -> None:
    clean = [[text.encode("utf-8", "ignore").decode() for text in pair] for pair in texts]
    batch = batch_of([asked(prompt, answer) for prompt, answer in clean])
    cut = data.draw(st.integers(0, len(texts)))
    apart = dict(step.judge(batch.slice(0, cut)))
    apart |= {cut + row: removal for row, removal in step.judge(batch.slice(cut)).items()}
    assert step.judge(batch) == apart


def test_every_row_filter_is_here() -> None:
    judging = {name for name, kind in STEPS.items() if callable(getattr(kind, "judge", None))}
    judging -= {"score_filter"}  # which reads no text
    assert judging == {name for name, kind in STEPS.items() if any(type(step) is kind for step in EVERY)}
