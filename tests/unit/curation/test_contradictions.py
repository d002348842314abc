from __future__ import annotations

import pyarrow as pa

from anneal.curation.domain.steps.base import Comparer, Removal, Verdicts
from anneal.curation.domain.steps.contradictions import Contradictions
from anneal.kit.records import DOCUMENT, document
from tests.unit.curation.rows import asked, compared, said, signed


def test_the_answer_of_the_smallest_id_is_kept() -> None:
    rows = [asked("How many?", answer) for answer in ("two", "three", "four")]
    first = min(rows, key=lambda row: row["id"])
    verdicts = compared(Contradictions(), asked("Else?", "no"), *rows)
    assert verdicts[0] is None
    for row, verdict in zip(rows, verdicts[1:], strict=True):
        expected = Removal("contradicting_answer", {"answers": 3}, first["id"])
        assert verdict == (None if row is first else expected)


def test_none_keeps_no_answer() -> None:
    rows = [asked("How many?", "two"), asked("how  MANY?", "three"), asked("How many?", "TWO"), asked("Else?", "no")]
    gone = Removal("contradicting_answer", {"answers": 2})
    assert compared(Contradictions(keep="none"), *rows) == [gone, gone, gone, None]


def test_equal_answers_do_not_contradict() -> None:
    rows = [asked("How many?", "two"), asked("how many?", " Two "), asked("How many?", "two", source="b.html")]
    for step in (Contradictions(keep="first"), Contradictions(keep="none")):
        assert compared(step, *rows) == [None] * 3


def test_rows_that_repeat_the_answer_kept_stay() -> None:
    rows = [asked("How many?", "two"), asked("How many?", "three"), asked("how many?", "two")]
    verdicts = compared(Contradictions(), *rows)
    kept = min(rows, key=lambda row: row["id"])["messages"][1]["content"]
    assert [verdict is None for verdict in verdicts] == [row["messages"][1]["content"] == kept for row in rows]


def test_verdicts_do_not_depend_on_the_order() -> None:
    rows = [asked(f"Q{n % 4}", f"A{n % 7}") for n in range(40)]
    told = {row["id"]: verdict for row, verdict in zip(rows, compared(Contradictions(), *rows), strict=True)}
    for row, verdict in zip(rows[::-1], compared(Contradictions(), *rows[::-1]), strict=True):
        assert verdict == told[row["id"]]


def test_the_whole_prompt_counts() -> None:
    rows = [
        said(("system", "Be brief."), ("user", "How many?"), ("assistant", "2")),
        said(("system", "Be polite."), ("user", "How many?"), ("assistant", "Two, please.")),
        said(("user", "How"), ("user", "many?"), ("assistant", "x")),
    ]
    assert compared(Contradictions(), *rows) == [None] * 3


def test_rows_without_prompt_or_answer_pass() -> None:
    rows = [
        asked("", "a"),
        asked("", "b"),
        said(),
        said(("user", "x")),
        said(("assistant", "y")),
        asked("😀", "😀" * 9),
    ]
    assert compared(Contradictions(), *rows) == [None] * len(rows)
    assert compared(Contradictions()) == []


def test_documents_pass() -> None:
    step = Contradictions()
    assert isinstance(step, Comparer)
    batch = pa.RecordBatch.from_pylist([document(text, uri=text) for text in "aab"], schema=DOCUMENT)
    (verdicts,) = step.compare(signed(step, batch))
    assert isinstance(verdicts, Verdicts)
    assert len(verdicts.places) == 0
