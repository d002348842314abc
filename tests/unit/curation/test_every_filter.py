from __future__ import annotations

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from anneal.curation.domain.steps import STEPS
from anneal.curation.domain.steps.base import RowFilter
from anneal.curation.domain.steps.format import Format
from anneal.curation.domain.steps.keywords import Keywords
from anneal.curation.domain.steps.language import Language
from anneal.curation.domain.steps.length import Length
from anneal.curation.domain.steps.pii_filter import PiiFilter
from anneal.curation.domain.steps.refusals import Refusals
from anneal.curation.domain.steps.repetition import Repetition
from anneal.curation.domain.steps.symbols import Symbols
from anneal.kit.records import DOCUMENT, document
from tests.unit.curation.rows import asked, batch_of, said
from tests.unit.curation.test_prose_filters import ENGLISH, GERMAN

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
