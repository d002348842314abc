"""Files become clean text whose sections and spans stand where they say."""

from __future__ import annotations

import lxml.etree
import pytest

from anneal.ingestion.adapters.packages import DOCX
from anneal.ingestion.adapters.parsers import PARSERS, media_type_of
from anneal.ingestion.adapters.parts import Outcome
from anneal.ingestion.domain.errors import UndecodableText, UnreadableDocument
from anneal.ingestion.files import add_file
from anneal.v1 import ingestion_service_pb2 as pb
from tests.fixtures.packages import docx, epub, zipped
from tests.fixtures.pdfs import lines, pdf

PLAIN_PAGE = b"<html><head><title>T</title></head><body><p>One line only.</p></body></html>"
SPHINX = """<!DOCTYPE html><html lang="en"><head><title>shutil — Docs</title>
<meta charset="utf-8"><meta name="generator" content="Docutils 0.17"></head><body>
<nav>elsewhere</nav><div class="related">up</div>
<div role="main"><h1>shutil<a class="headerlink" href="#x">¶</a></h1><p>High-level   operations.</p>
<section><h2>Files</h2>
<dl class="py function"><dt class="sig" id="shutil.copyfile"><span>shutil.</span><span>copyfile</span>(<em
class="sig-param"><span class="n">src</span></em>, <em class="sig-param"><span class="o">*</span></em>, <em
class="sig-param"><span class="o">**</span><span class="n">options</span></em>)<a class="headerlink">¶</a></dt>
<dd><p>Copy the <code>src</code> file.</p><pre>copyfile("a")</pre></dd></dl>
<dl class="py class"><dt class="sig" id="shutil.Box">class shutil.Box</dt>
<dd><dl class="py method"><dt class="sig" id="shutil.Box.open">open(mode)</dt><dd></dd></dl></dd></dl>
<dl class="py data"><dt class="sig">unnamed</dt><dd><p>No id, no span.</p></dd></dl></section>
<table><tr><th>a|b</th><th>c</th></tr><tr><td>1</td><td>2</td></tr></table></div></body></html>"""


def test_the_entries_of_sphinx_are_spans_at_their_place() -> None:
    page = PARSERS["text/html"](SPHINX.encode(), "library/shutil.html")
    assert (page.title, page.language, page.notes["extractor"]) == ("shutil", "en", "sphinx")
    assert [(span.type, span.name) for span in page.spans] == [
        ("function", "shutil.copyfile"),
        ("class", "shutil.Box"),
        ("method", "shutil.Box.open"),
    ]
    function, box, method = page.spans
    assert function.signature == "shutil.copyfile(src, *, **options)"
    assert function.params == ("src", "**options")
    body = page.text[function.body_start : function.end]
    assert body == 'Copy the `src` file.\n\n```\ncopyfile("a")\n```'
    assert box.start < method.start
    assert method.end <= box.end
    assert method.body_start == method.end
    for span in page.spans:
        assert page.text.startswith(span.signature, span.start)


def test_the_sections_of_sphinx_nest_and_cover_their_text() -> None:
    page = PARSERS["text/html"](SPHINX.encode(), "a.html")
    assert [(section.level, section.title) for section in page.sections] == [(1, "shutil"), (2, "Files")]
    assert page.sections[0].end == page.sections[1].end == len(page.text)
    assert page.text[page.sections[1].start :].startswith("## Files")


def test_what_is_around_the_main_part_of_sphinx_is_left_out() -> None:
    text = PARSERS["text/html"](SPHINX.encode(), "a.html").text
    assert "¶" not in text
    assert "elsewhere" not in text
    assert "| a\\|b | c |\n| --- | --- |\n| 1 | 2 |" in text


def test_any_other_page_keeps_its_text() -> None:
    data = b"<html><head><title>T</title></head><body><p>One line only.</p></body></html>"
    page = PARSERS["text/html"](data, "t.html")
    assert (page.title, page.text.strip()) == ("T", "One line only.")


@pytest.mark.parametrize("data", [b"", b"<!-- only a comment -->", b"<html></html>"])
def test_a_page_without_text_is_empty_and_no_error(data: bytes) -> None:
    assert PARSERS["text/html"](data, "e.html").text == ""


def test_a_page_nested_a_hundred_thousand_deep_is_read() -> None:
    data = b"<html><head><meta content='docutils'></head><body>" + b"<div>" * 100_000 + b"deep" + b"</body></html>"
    page = PARSERS["text/html"](data, "deep.html")
    assert page.text in ("deep", "")  # libxml2 gives up at a depth of its own


def test_a_page_that_says_utf8_and_is_not_is_refused() -> None:
    with pytest.raises(UndecodableText, match="byte 42"):
        PARSERS["text/html"](
            b'<html><head><meta charset="utf-8"></head><\xff></html>'.replace(b"<\xff>", b"x\xff"), "b"
        )


def test_markdown_keeps_its_text_and_finds_its_headings_outside_code() -> None:
    text = "intro\r\n\r\n# One *bold*\n\n```\n# no heading\n```\n\nTwo\n---\n"
    page = PARSERS["text/markdown"](text.encode(), "a.md")
    assert page.title == "One bold"
    assert [(s.level, s.title) for s in page.sections] == [(1, "One bold"), (2, "Two")]
    assert page.text[page.sections[1].start :] == "Two\n---"


@pytest.mark.parametrize(("first", "title"), [("A title", "A title"), ("x" * 120, "x" * 120), ("x" * 121, "")])
def test_plain_text_takes_a_short_first_line_as_its_title(first: str, title: str) -> None:
    assert PARSERS["text/plain"](f"\n{first}\nmore".encode(), "a.txt").title == title


@pytest.mark.parametrize(
    ("data", "uri", "media_type"),
    [
        (b"<!DOCTYPE html><p>", "a.txt", "text/html"),
        (b"\xef\xbb\xbf <HTML lang=en>", "a", "text/html"),
        (b"plain", "a.HTM", "text/html"),
        (b"plain", "a.md", "text/markdown"),
        (b"plain", "a.rst", "text/plain"),
        (b"plain", "LICENSE", "text/plain"),
        (b"plain", "a.docx", DOCX),
        (b"plain", "a.bin", None),
        (b"%PDF-1.4\n", "a.bin", "application/pdf"),
        (b"\r\n%PDF-1.4\n\0", "scan", "application/pdf"),
        (b"A file begins with %PDF-1.4.", "about.txt", "text/plain"),
        (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "a.doc", DOCX),
        (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "a.xls", None),
        (docx([]), "a.zip", DOCX),
        (epub({}), "a", "application/epub+zip"),
        (zipped({"[Content_Types].xml": "<a/>", "xl/workbook.xml": "<a/>"}), "a.docx", None),
        (zipped({"mimetype": "application/vnd.oasis.opendocument.text"}), "a.odt", None),
        (docx([])[:300], "a.docx", DOCX),
        (docx([])[:300], "a.zip", None),
        (b"a\0b", "a.txt", None),
        (b"\xff\xfea\0b\0", "a.txt", "text/plain"),
    ],
)
def test_the_media_type_comes_from_content_then_name(data: bytes, uri: str, media_type: str | None) -> None:
    assert media_type_of(data, uri) == media_type


@pytest.mark.parametrize(
    "error", [AttributeError("no tail"), RecursionError(), lxml.etree.XMLSyntaxError("x", 1, 1, 1)]
)
@pytest.mark.parametrize(
    ("library", "call", "media_type", "data"),
    [
        ("trafilatura", "trafilatura.extract", "text/html", PLAIN_PAGE),
        ("lxml", "lxml.html.document_fromstring", "text/html", PLAIN_PAGE),
        ("markdown-it", "markdown_it.MarkdownIt.parse", "text/markdown", b"# T"),
        ("mammoth", "mammoth.convert_to_html", DOCX, docx([])),
        ("pdfium", "anneal.ingestion.adapters.parsers.pdf.text_of", "application/pdf", pdf([lines(["a"])])),
        ("charset-normalizer", "anneal.ingestion.adapters.encodings.from_bytes", "text/plain", b"\xe9\xe8 \xe0" * 99),
    ],
)
def test_a_library_that_gives_up_costs_one_document(
    monkeypatch: pytest.MonkeyPatch, error: Exception, library: str, call: str, media_type: str, data: bytes
) -> None:
    def give_up(*_args: object, **_named: object) -> None:
        raise error

    monkeypatch.setattr(call, give_up)
    outcome = Outcome()
    request = pb.IngestDocumentsRequest(media_type=media_type)
    add_file(outcome, "page", data, request, lambda kind, *file: PARSERS[kind](*file), 1 << 20)
    (row,) = outcome.quarantined
    assert (row["reason"], row["file"], outcome.rows) == ("unreadable", "page", [])
    assert row["cause"].startswith(f"{library}: {type(error).__name__}")
    with pytest.raises(UnreadableDocument):
        PARSERS[media_type](data, "page")


FILLER = "Our support answers within one working day, and you find the form for your questions on another page. " * 4


def page(body: str) -> bytes:
    return f"<!DOCTYPE html><html><head><title>T</title></head><body>{body}</body></html>".encode()


def test_a_page_without_a_main_element_keeps_headings_lists_cells_and_code() -> None:
    text = PARSERS["text/html"](
        page(
            "<div class=wrap><h1>Help</h1><h2>May I return it?</h2><p>Yes, within 14 days of the day it came.</p>"
            "<h2>Prices</h2><ul><li>Small: 5 EUR</li><li>Large: 9 EUR</li></ul>"
            "<table><tr><th>To</th><th>Cost</th></tr>"
            "<tr><td>US</td><td><ul><li>9 EUR</li><li>12 EUR</li></ul></td></tr>"
            f"</table><pre>for f in *; do\n  zip $f\ndone</pre><p>{FILLER}</p></div>"
        ),
        "a.html",
    ).text
    assert text.startswith("# Help\n\n## May I return it?\n\nYes, within 14 days")
    assert "## Prices\n\n- Small: 5 EUR\n- Large: 9 EUR" in text
    assert "| To | Cost |\n| --- | --- |\n| US | 9 EUR; 12 EUR |" in text
    assert "```\nfor f in *; do\n  zip $f\ndone\n```" in text


def test_what_surrounds_the_content_of_a_page_without_a_main_element_is_left_out() -> None:
    document = PARSERS["text/html"](
        page(
            "<div class=menu><ul><li><a href=/a>Products</a></li><li><a href=/b>Company</a></li></ul></div>"
            f"<div><h1>Terms</h1><p>{FILLER}</p><h2>Returns</h2><p>Within 14 days of the day it came to you.</p></div>"
            "<div class=footer><p>Copyright 2024 by us</p></div>"
        ),
        "a.html",
    )
    assert document.text.startswith("# Terms")
    assert document.text.endswith("Within 14 days of the day it came to you.")
    assert [(each.title, document.text[each.start :][:4]) for each in document.sections] == [
        ("Terms", "# Te"), ("Returns", "## R")
    ]  # fmt: skip
    assert all(each.end <= len(document.text) for each in document.sections)


@pytest.mark.parametrize("wrapped", ["<main>{}</main>", "<div role=main>{}</div>", "<article>{}</article>"])
def test_the_main_element_is_taken_whole(wrapped: str) -> None:
    body = "<header><h1>Title</h1></header><ul><li>one</li></ul><footer>by us</footer>"
    document = PARSERS["text/html"](page("<header>Site</header>" + wrapped.format(body) + "<p>around</p>"), "a.html")
    assert document.text == "# Title\n\n- one"


def test_a_table_that_only_places_other_blocks_is_no_table() -> None:
    cells = "<table><tr><td><h2>Left</h2><p>text</p></td><td><pre>code</pre></td></tr></table>"
    assert PARSERS["text/html"](page(f"<main>{cells}</main>"), "a.html").text == "## Left\n\ntext\n\n```\ncode\n```"


def test_the_front_matter_of_markdown_is_no_text() -> None:
    text = "---\ntitle: Größe\nlang: de\ntags: [a, b]\ndate: 2024-05-01\n---\n\n# Heading\n\ntext"
    document = PARSERS["text/markdown"](text.encode(), "a.md")
    assert (document.text, document.title, document.language) == ("# Heading\n\ntext", "Größe", "de")
    assert document.properties == {"title": "Größe", "lang": "de", "tags": ["a", "b"], "date": "2024-05-01"}
    assert document.meta()["properties"] == document.properties


@pytest.mark.parametrize(
    "text",
    [
        "---\n\nA rule above, and one below.\n\n---\n\ntext",
        "---\nonly: begun\n\ntext",
        "---\n- a list\n---\ntext",
        "---\na: [\n---\ntext",
        "---\na: &a [x]\nb: *a\n---\ntext",
        "text\n\n---\na: b\n---",
    ],
)
def test_what_is_no_front_matter_stays(text: str) -> None:
    document = PARSERS["text/markdown"](text.encode(), "a.md")
    assert (document.text, document.properties) == (text, {})
