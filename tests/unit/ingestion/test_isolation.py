"""A parser that hangs, grows or crashes costs one document; random damage never costs more than that."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from anneal.ingestion.adapters.isolation import ParserProcess, parser_process
from anneal.ingestion.adapters.packages import DOCX, EPUB
from anneal.ingestion.adapters.parsers import PARSERS
from anneal.ingestion.adapters.parts import Outcome
from anneal.ingestion.domain.errors import UndecodableText, UnreadableDocument
from anneal.ingestion.files import add_file
from anneal.v1 import ingestion_service_pb2 as pb
from tests.fixtures.packages import chapter, docx, epub, paragraph, table
from tests.fixtures.pdfs import Scan, lines, pdf

PDF = "application/pdf"
GOOD = {
    PDF: pdf(
        [lines(["A heading", "", "Some text below it."]), [Scan()]], info={"Title": "T"}, outline=[("A heading", 0)]
    ),
    DOCX: docx([paragraph("H", "Heading1"), paragraph("t[^2]"), table([["a", "b"]])], footnotes={2: "n"}),
    EPUB: epub({"a.xhtml": chapter("<h1>One</h1><p>Text</p>")}, toc={"a.xhtml": "One"}),
    "text/html": b"<html><body><h1>x</h1><table><tr><td rowspan=2>a<td>b</table></body></html>",
}


@pytest.fixture(scope="module")
def process() -> Iterator[ParserProcess]:
    with parser_process(max_seconds=60, max_memory_bytes=2 << 30, on_wait=lambda: None) as running:
        yield running


@pytest.mark.parametrize("media_type", PARSERS)
def test_what_comes_out_is_what_the_parser_makes(process: ParserProcess, media_type: str) -> None:
    data = GOOD.get(media_type, "# Größe\n\ntext".encode())
    assert process.parse(media_type, data, "a") == PARSERS[media_type](data, "a")


def test_refusals_come_through(process: ParserProcess) -> None:
    with pytest.raises(UndecodableText) as undecodable:
        process.parse("text/plain", "Maß für Maß ".encode() + b"\xff\xfe", "a.txt")
    assert undecodable.value.byte_offset == 15
    with pytest.raises(UnreadableDocument) as unreadable:
        process.parse(PDF, pdf([[Scan()]]), "a.pdf")
    assert unreadable.value.reason == "no_text_layer"


def test_one_that_takes_too_long_is_refused_and_the_next_is_read() -> None:
    page = lines(["word " * 20] * 50)
    with parser_process(max_seconds=0.5, max_memory_bytes=2 << 30, on_wait=lambda: None) as process:
        with pytest.raises(UnreadableDocument, match=r"longer than 0\.5 s") as caught:
            process.parse(PDF, pdf([page] * 300), "slow.pdf")
        assert caught.value.reason == "too_slow"
        assert process.parse("text/plain", b"next", "a.txt").text == "next"


def test_one_that_needs_too_much_memory_is_refused_and_the_next_is_read() -> None:
    with parser_process(max_seconds=60, max_memory_bytes=512 << 20, on_wait=lambda: None) as process:
        with pytest.raises(UnreadableDocument, match="memory") as caught:
            process.parse("text/plain", b"a line\n" * 10_000_000, "large.txt")
        assert caught.value.reason in ("too_much_memory", "parser_crashed")
        assert process.parse("text/plain", b"next", "a.txt").text == "next"


def test_one_that_ends_the_process_is_refused_and_the_next_is_read() -> None:
    with parser_process(max_seconds=60, max_memory_bytes=2 << 30, on_wait=lambda: None) as process:
        process.parse("text/plain", b"first", "a.txt")
        child = process._child
        assert child is not None
        killer = threading.Timer(0.2, os.kill, (child.pid, signal.SIGSEGV))
        killer.start()
        with pytest.raises(UnreadableDocument, match="SIGSEGV") as caught:
            process.parse(PDF, pdf([lines(["word " * 20] * 50)] * 300), "crash.pdf")
        assert caught.value.reason == "parser_crashed"
        assert process.parse("text/plain", b"next", "a.txt").text == "next"


def test_a_job_that_is_stopped_ends_the_process() -> None:
    begun = time.monotonic()
    running: ParserProcess

    def stop() -> None:
        if running._child is not None and time.monotonic() > begun + 0.1:
            raise KeyboardInterrupt

    with parser_process(max_seconds=60, max_memory_bytes=2 << 30, on_wait=stop) as running:
        with pytest.raises(KeyboardInterrupt):
            running.parse(PDF, pdf([lines(["word " * 20] * 50)] * 300), "a.pdf")
        assert running._child is None


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    media_type=st.sampled_from([PDF, DOCX, EPUB, "text/html"]),
    damage=st.lists(st.tuples(st.floats(0, 1), st.binary(max_size=6), st.integers(0, 8)), min_size=1, max_size=5),
    keep=st.floats(0.2, 1),
)
def test_random_damage_costs_one_document_at_most(
    process: ParserProcess, media_type: str, damage: list[tuple[float, bytes, int]], keep: float
) -> None:
    data = bytearray(GOOD[media_type])
    for where, what, removed in damage:
        at = int(where * len(data))
        data[at : at + removed] = what
    outcome = Outcome()
    request = pb.IngestDocumentsRequest(media_type=media_type)
    add_file(outcome, "a", bytes(data[: int(keep * len(data))]), request, process.parse, 1 << 20)
    assert len(outcome.rows) + len(outcome.quarantined) == 1
    assert all(row["text"].strip() for row in outcome.rows)
    assert all(row["cause"] for row in outcome.quarantined)
