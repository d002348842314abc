from __future__ import annotations

import json

import pytest

from anneal.synthesis.domain.documents import BadDocument, Over, Passage, passages, read_document, read_passages
from anneal.synthesis.domain.rows import Malformed
from tests.unit.synthesis.documents import COPY, POINT, document, row


def test_a_span_becomes_signature_and_body_with_its_place() -> None:
    page = read_document(document(COPY))
    (found,) = passages(page, Over.SPANS)
    assert found.signature == COPY["signature"]
    assert found.body == COPY["body"]
    assert found.entry == f"{COPY['signature']}\n{COPY['body']}"
    assert found.params == ("src", "dst", "follow")
    assert page.text[found.start : found.end] == f"{COPY['signature']}\n\n{COPY['body']}"
    assert found.section == "demo"


def test_the_own_body_of_a_class_stops_where_its_first_method_begins() -> None:
    text = "class A()\n\nAn A.\n\nrun()\n\nRuns it."
    spans = [
        {"type": "class", "name": "A", "signature": "class A()", "start": 0, "body_start": 11, "end": len(text)},
        {"type": "method", "name": "A.run", "signature": "run()", "start": 18, "body_start": 25, "end": len(text)},
    ]
    first, second = passages(read_document(row(text, {"spans": spans})), Over.SPANS)
    assert (first.body, second.body) == ("An A.", "Runs it.")


def test_a_section_stops_where_its_first_subsection_begins() -> None:
    text = "# A\n\none\n\n## B\n\ntwo"
    meta = {
        "sections": [
            {"level": 1, "title": "A", "start": 0, "end": len(text)},
            {"level": 2, "title": "B", "start": 10, "end": len(text)},
        ]
    }
    found = list(passages(read_document(row(text, meta)), Over.SECTIONS))
    assert [(one.name, one.level, one.body) for one in found] == [("A", 1, "# A\n\none"), ("B", 2, "## B\n\ntwo")]


def test_whole_documents_and_rows_are_one_passage_each() -> None:
    for over in (Over.DOCUMENTS, Over.ROWS):
        (found,) = passages(read_document(row("text", {"topic": "x"})), over)
        assert (found.body, found.start, found.end) == ("text", 0, 4)
        assert found.document.columns["meta"] == {"topic": "x"}


def test_byte_offsets_count_bytes_not_characters() -> None:
    page = document(POINT, intro="\u00e4\u00f6")
    (found,) = passages(read_document(page), Over.SPANS)
    assert found.byte_offset == found.start + 2


@pytest.mark.parametrize(
    "meta",
    [
        {"spans": [{"type": "function", "start": 0, "body_start": 0, "end": 99}]},
        {"spans": [{"type": "function", "start": -1, "body_start": 0, "end": 1}]},
        {"spans": [{"type": "function", "start": 0, "end": 1}]},
        {"spans": [{"start": "0"}]},
        {"spans": {"start": 0}},
        {"spans": ["a"]},
    ],
)
def test_a_broken_span_is_quarantined_and_never_guessed(meta: dict[str, object]) -> None:
    found = read_passages(row("text", meta), Over.SPANS)
    assert isinstance(found, Malformed)
    assert (found.cause, found.file) == ("bad_document", "library/demo.html")


@pytest.mark.parametrize("meta", ["{", "[1]", "[" * 100_000])
def test_a_meta_column_that_is_no_object_is_quarantined(meta: str) -> None:
    found = read_passages({**row("text", {}), "meta": meta}, Over.SPANS)
    assert isinstance(found, Malformed)
    assert len(found.raw) <= 2_000


def test_a_document_without_spans_has_no_passages() -> None:
    assert list(passages(read_document(row("text", {})), Over.SPANS)) == []
    assert list(passages(read_document({**row("text", {}), "meta": ""}), Over.SPANS)) == []


def test_the_group_key_is_the_source_and_then_the_uri() -> None:
    assert read_document({**row("t", {}), "source": "group"}).source == "group"
    assert read_document({**row("t", {}), "source": None}).source == "library/demo.html"


def test_bad_document_is_an_error_outside_of_reading_rows() -> None:
    with pytest.raises(BadDocument, match="end of 'f'"):
        list(passages(read_document(row("t", {"spans": [{"name": "f", "start": 0, "end": 5}]})), Over.SPANS))


def test_a_passage_places_itself() -> None:
    (found,) = passages(read_document(document(COPY)), Over.SPANS)
    assert isinstance(found, Passage)
    assert found.place == {
        "document": "id-of-library/demo.html",
        "name": "demo.copy",
        "start": found.start,
        "end": found.end,
    }
    assert json.dumps(found.place)
