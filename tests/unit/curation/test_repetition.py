from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from anneal.curation.domain.spans import Spans
from anneal.curation.domain.steps.base import Removal, WrongSetting
from anneal.curation.domain.steps.repetition import DUPLICATE, TOP, Repetition
from tests.unit.curation.rows import asked, judged, reasons


def distinct(count: int, start: int = 0) -> list[str]:
    """Words of six letters, each once."""
    return [
        f"w{chr(97 + n // 676 % 26)}{chr(97 + n // 26 % 26)}{chr(97 + n % 26)}xy" for n in range(start, start + count)
    ]


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
    top = max([0, *(count * sum(map(len, gram)) for gram, count in seen.items() if count > 1)])
    return min(top / total, 1.0), sum(len(words[at]) for at in covered) / total


@given(
    st.lists(st.lists(st.sampled_from(["a", "bb", "éé", "日本"]), max_size=12).map(" ".join), max_size=5),
    st.integers(2, 10),
)
def test_shares_are_those_counted_by_hand(texts: list[str], n: int) -> None:
    top, duplicate = Spans(pa.array(texts, pa.large_string())).shares(n)
    expected = [shares_by_hand(text, n) for text in texts]
    assert np.allclose(top, [by_hand for by_hand, _ in expected])
    assert np.allclose(duplicate, [by_hand for _, by_hand in expected])


@pytest.mark.parametrize(
    ("make", "field"),
    [
        (lambda: Repetition(max_duplicate_lines=1.1), "max_duplicate_lines"),
        (lambda: Repetition(scale=0), "scale"),
        (lambda: Repetition(min_words=0), "min_words"),
    ],
)
def test_impossible_settings_name_their_field(make, field: str) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(WrongSetting) as wrong:
        make()
    assert wrong.value.field == field
