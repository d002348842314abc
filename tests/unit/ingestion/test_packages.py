"""Word files and books become text with headings, lists, tables and footnotes; hostile ones are refused by name."""

from __future__ import annotations

from pathlib import Path

import pytest

from anneal.ingestion.adapters.packages import is_document
from anneal.ingestion.adapters.parsers import docx as word
from anneal.ingestion.adapters.parsers import epub as book
from anneal.ingestion.domain.errors import UnreadableDocument
from tests.fixtures.packages import chapter, docx, epub, paragraph, table, zipped

BULLET = {"style": "ListParagraph", "list_level": 0}
ENTITIES = '<!DOCTYPE d [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;&a;&a;">]>'
W = 'xmlns:w="http://schemas.openxmlformats.org/wordprocessingml/2006/main"'


def reason(parse: object, data: bytes) -> tuple[str, str]:
    with pytest.raises(UnreadableDocument) as caught:
        parse(data, "a")  # type: ignore[operator]
    return caught.value.reason, str(caught.value)


def test_the_structure_of_a_word_file_stays() -> None:
    page = word.parse(
        docx(
            [
                paragraph("Handbook", "Title"),
                paragraph("Rules", "Heading1"),
                paragraph("Be on time.[^2] Always."),
                paragraph("one", **BULLET),  # type: ignore[arg-type]
                paragraph("two", **BULLET),  # type: ignore[arg-type]
                paragraph("first", "ListParagraph", list_level=0, ordered=True),
                table([["Name", "Price"], ["Pen | ink", "3"]]),
                paragraph("Details", "Heading2"),
                paragraph("中文 Größe"),
            ],
            footnotes={2: "Or say so."},
        ),
        "a.docx",
    )
    assert page.text == (
        "# Handbook\n\n# Rules\n\nBe on time.[^1] Always.\n\n- one\n- two\n\n1. first\n\n"
        "| Name | Price |\n| --- | --- |\n| Pen \\| ink | 3 |\n\n## Details\n\n中文 Größe\n\n[^1]: Or say so."
    )
    assert [(section.level, section.title) for section in page.sections] == [
        (1, "Handbook"), (1, "Rules"), (2, "Details")
    ]  # fmt: skip
    for section in page.sections:
        assert page.text[section.start :].startswith(f"{'#' * section.level} {section.title}")
    assert page.title == "Handbook"
    assert page.notes == {"extractor": "mammoth", "footnotes": 1}


def test_a_word_file_says_its_title_author_and_language() -> None:
    core = {"title": "Rules", "creator": "Ann", "language": "de-AT", "created": "2024-01-02T03:04:05Z"}
    page = word.parse(docx([paragraph("x")], core=core, language="en-US"), "a.docx")
    assert (page.title, page.language) == ("Rules", "de-AT")
    assert page.properties == {"author": "Ann", "created": "2024-01-02T03:04:05Z"}
    assert word.parse(docx([paragraph("x")], language="en-US"), "a.docx").language == "en-US"


def test_what_a_word_file_loses_is_counted() -> None:
    math = "http://schemas.openxmlformats.org/officeDocument/2006/math"
    body = [
        f'<w:p><m:oMath xmlns:m="{math}"><m:r><m:t>E=mc</m:t></m:r></m:oMath></w:p>',
        "<w:p><w:ins><w:r><w:t>kept</w:t></w:r></w:ins><w:del><w:r><w:delText>gone</w:delText></w:r></w:del></w:p>",
        '<w:p><w:r><w:commentReference w:id="1"/></w:r><w:r><w:object/></w:r></w:p>',
    ]
    page = word.parse(docx(body), "a.docx")
    assert page.text == "kept"
    assert page.warnings == {"comments_left_out": 1, "embedded_objects_left_out": 1, "formulas_left_out": 1}


def test_cells_over_rows_and_columns_keep_their_place() -> None:
    wide = f'<w:tc><w:tcPr><w:gridSpan w:val="2"/></w:tcPr>{paragraph("both")}</w:tc>'
    begins = f'<w:tc><w:tcPr><w:vMerge w:val="restart"/></w:tcPr>{paragraph("tall")}</w:tc>'
    goes_on = f"<w:tc><w:tcPr><w:vMerge/></w:tcPr>{paragraph('')}</w:tc>"
    body = table([[wide, "c"], [begins, "1", "2"], [goes_on, "3", "4"]])
    assert word.parse(docx([body]), "a.docx").text == (
        "| both |  | c |\n| --- | --- | --- |\n| tall | 1 | 2 |\n| tall | 3 | 4 |"
    )


OLE = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"


@pytest.mark.parametrize(
    ("data", "name", "text"),
    [
        (OLE + "EncryptedPackage".encode("utf-16-le"), "encrypted", "without its password"),
        (OLE + b"WordDocument", "legacy_format", "save it as .docx"),
        (docx([])[:500], "unreadable", "damaged"),
        (b"plain", "unreadable", "damaged"),
        (zipped({"[Content_Types].xml": "<a/>", "word/x": ""}), "unreadable", "mammoth"),
        (docx([], more={"word/media.xml": b" " * (9 << 20)}), "expands_too_much", "more than 200 times"),
        (docx([], more={f"word/{n}.txt": b"" for n in range(10_001)}), "expands_too_much", "members, more than 10000"),
        (docx([], more={"word/document.xml": f"{ENTITIES}<a>&b;</a>"}), "hostile_xml", "declares XML entities"),
        (docx(["<w:p>" * 230 + "</w:p>" * 230]), "hostile_xml", "deeper than 200"),
        (docx([], more={"word/document.xml": "<w:document"}), "unreadable", "word/document.xml"),
    ],
    ids=["encrypted", "old", "cut", "plain", "lacks", "bomb", "members", "entities", "deep", "no-xml"],
)
def test_a_word_file_that_is_refused_says_why(data: bytes, name: str, text: str) -> None:
    found, cause = reason(word.parse, data)
    assert (found, text in cause) == (name, True), cause


def test_an_understated_size_does_not_expand_further() -> None:
    data = docx([paragraph("x" * 5000)])
    body = b"word/document.xml"
    at = data.rindex(body) - 46  # its entry in the directory
    broken = data[: at + 24] + (100).to_bytes(4, "little") + data[at + 28 :]
    found, cause = reason(word.parse, broken)
    assert (found, "word/document.xml" in cause) == ("unreadable", True), cause


def test_a_book_is_read_in_its_order() -> None:
    page = book.parse(
        epub(
            {
                "text/b.xhtml": chapter(
                    '<h1>One</h1><p>Caf&eacute; &amp; tea.<a epub:type="noteref" href="#n">1</a></p>'
                    '<aside epub:type="footnote" id="n"><p>Black.</p></aside>'
                ),
                "text/a.xhtml": chapter("<p>No heading here.</p><ul><li>x</li></ul><img src='i.png'/>"),
            },
            toc={"text/b.xhtml": "One", "text/a.xhtml": "Two"},
        ),
        "b.epub",
    )
    assert page.text == "# One\n\nCafé & tea.[^1-1]\n\n[^1-1]: Black.\n\nNo heading here.\n\n- x"
    assert [(each.title, page.text[each.start :][:5]) for each in page.sections] == [("One", "# One"), ("Two", "No he")]
    assert (page.title, page.language, page.properties) == ("Book", "en", {"author": "Ann"})
    assert page.warnings == {"images_left_out": 1}


def test_an_older_book_with_loose_html_is_read() -> None:
    chapters = {"a.html": b"<html><body><p>loose <br>text &nbsp;&copy;<p>more", "b.html": b""}
    page = book.parse(epub(chapters, toc={"a.html": "Start"}, ncx=True), "b.epub")
    assert page.text == "loose\ntext \u00a0©\n\nmore"
    assert [section.title for section in page.sections] == ["Start"]
    assert page.warnings == {"chapters_without_text": 1}


def test_a_chapter_that_is_missing_is_counted() -> None:
    data = epub({"a.xhtml": chapter("<p>here</p>")})
    page = book.parse(data.replace(b"OEBPS/a.xhtml", b"OEBPS/x.xhtml"), "b.epub")
    assert (page.text, page.warnings) == ("", {"chapters_without_text": 1})


def encryption(algorithm: str) -> dict[str, str | bytes]:
    method = f'<EncryptedData><EncryptionMethod Algorithm="{algorithm}"/></EncryptedData>'
    return {"META-INF/encryption.xml": f'<encryption xmlns="urn:x">{method}</encryption>'}


def test_obfuscated_fonts_are_no_encrypted_text() -> None:
    data = epub({"a.xhtml": chapter("<p>here</p>")}, more=encryption("http://www.idpf.org/2008/embedding"))
    assert book.parse(data, "b.epub").text == "here"


@pytest.mark.parametrize(
    ("data", "name", "text"),
    [
        (epub({}, more=encryption("http://www.w3.org/2001/04/xmlenc#aes128-cbc")), "encrypted", "DRM"),
        (epub({"a.xhtml": chapter("<p>&b;</p>", doctype=ENTITIES)}), "hostile_xml", "declares XML entities"),
        (epub({"a.xhtml": chapter("<div>" * 210 + "</div>" * 210)}), "hostile_xml", "deeper than 200"),
        (zipped({"mimetype": "application/epub+zip"}), "unreadable", "lacks its member"),
        (epub({}, more={"OEBPS/big.css": b" " * (9 << 20)}), "expands_too_much", "more than 200 times"),
        (epub({})[:200], "unreadable", "damaged"),
    ],
    ids=["drm", "entities", "deep", "lacks", "bomb", "cut"],
)
def test_a_book_that_is_refused_says_why(data: bytes, name: str, text: str) -> None:
    found, cause = reason(book.parse, data)
    assert (found, text in cause) == (name, True), cause


@pytest.mark.parametrize(
    ("data", "name", "is_one"),
    [
        (docx([]), "a.docx", True),
        (docx([]), "a", True),
        (epub({}), "a.zip", True),
        (zipped({"[Content_Types].xml": "<a/>", "xl/a.xml": "<a/>"}), "a.xlsx", True),
        (docx([])[:300], "a.docx", True),
        (zipped({"pages/a.html": "<p>x</p>", "word/a.txt": "x"}), "a.zip", False),
        (b"plain", "a.docx", False),
    ],
)
def test_a_document_is_no_archive_of_files(tmp_path: Path, data: bytes, name: str, is_one: bool) -> None:
    path = tmp_path / "file"
    path.write_bytes(data)
    assert is_document(path, name) is is_one
