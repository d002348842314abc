"""Pages become paragraphs, headings, lists and tables again; what is no text is refused or counted."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from anneal.ingestion.adapters.parsers.pdf import parse
from anneal.ingestion.domain.documents import ParsedDocument
from anneal.ingestion.domain.errors import UnreadableDocument
from tests.fixtures.pdfs import Page, Scan, Text, lines, pdf


def parsed(*pages: Page, **options: object) -> ParsedDocument:
    return parse(pdf(pages, **options), "a.pdf")  # type: ignore[arg-type]


def reason(data: bytes) -> tuple[str, str]:
    with pytest.raises(UnreadableDocument) as caught:
        parse(data, "a.pdf")
    return caught.value.reason, str(caught.value)


PROSE = [
    "This is the first line of a paragraph that goes on for a",
    "while, and ends on its third line, which is as long as the",
    "others are.",
    "",
    "A second paragraph stands below a wider gap and has lines of",
    "its own.",
]


def test_lines_become_paragraphs_and_a_larger_line_a_heading() -> None:
    page = parsed([Text(72, 790, "Opening hours", 18), *lines(PROSE)])
    first, second = " ".join(PROSE[:3]), " ".join(PROSE[4:])
    assert page.text == f"# Opening hours\n\n{first}\n\n{second}"
    assert [(section.level, section.title, section.end) for section in page.sections] == [
        (1, "Opening hours", len(page.text))
    ]
    assert page.title == "Opening hours"


def test_the_file_says_its_title_author_and_language() -> None:
    page = parsed(lines(PROSE), info={"Title": "Hours", "Author": "Ann Ö"}, language="en-GB")
    assert (page.title, page.language, page.properties) == ("Hours", "en-GB", {"author": "Ann Ö"})


def test_bookmarks_make_headings_of_lines_that_look_like_text() -> None:
    page = parsed(lines(["2.1  Refunds", "", *PROSE]), outline=[("2.1 Refunds", 0)])
    assert [(section.level, section.title) for section in page.sections] == [(1, "2.1 Refunds")]


def test_pages_know_where_their_text_stands() -> None:
    page = parsed(
        lines(["The first page ends in the middle of a"]), lines(["sentence.", "", "The third paragraph."]), [Scan()]
    )
    assert page.text.startswith("The first page ends in the middle of a sentence.")
    assert [page.text[each.start : each.end].strip()[:9] for each in page.pages] == ["The first", "sentence."]
    assert [each.number for each in page.pages] == [1, 2]
    assert page.place(0, 60)["pages"] == [1, 2]
    assert (page.notes["pages"], page.notes["pages_without_text"]) == (3, [3])
    assert page.warnings == {"images_left_out": 1, "pages_without_text": 1}


@pytest.mark.parametrize(
    ("above", "below", "text"),
    [
        ("We speak of trans-", "formation here.", "We speak of transformation here."),
        ("A well-known rule is well-", "known to all.", "A well-known rule is well-known to all."),
        ("We met in Baden-", "Baden again.", "We met in Baden-Baden again."),
        ("From 2019-", "2021 it rose.", "From 2019- 2021 it rose."),
    ],
)
def test_a_hyphen_at_a_lines_end(above: str, below: str, text: str) -> None:
    assert parsed(lines([above, below])).text == text


def test_ligatures_are_written_out() -> None:
    assert parsed(lines(["The oﬃce ﬁles ﬂow."])).text == "The office files flow."


FRUITS = ["Apples", "Pears", "Plums", "Grapes"]


@pytest.mark.parametrize(
    ("footer", "left_out"),
    [
        (lambda number: Text(290, 30, str(number), 9), "#"),
        (lambda number: Text(290, 30, f"- {number} -", 9), "- # -"),
        (lambda number: Text(72 if number % 2 else 500, 30, str(number), 9), "#"),
        (lambda number: Text(72, 30, f"Page {number} of 10", 9), "Page # of 10"),
        (lambda number: Text(72, 30, f"{number} | Chapter 2", 9), "# | Chapter 2"),
        (lambda number: Text(72, 30, f"Chapter 2: Fruit {number}", 9), "Chapter 2: Fruit #"),
    ],
)
def test_what_stands_on_every_page_is_left_out_and_counted(footer: Callable[[int], Text], left_out: str) -> None:
    pages = [
        [Text(72, 800, "Annual report", 9), *lines([f"{fruit} are what this page is about."]), footer(number)]
        for number, fruit in enumerate(FRUITS, start=7)
    ]
    page = parsed(*pages)
    assert page.text == "\n\n".join(f"{fruit} are what this page is about." for fruit in FRUITS)
    assert page.warnings == {"repeated_lines_left_out": 8}
    assert page.notes["repeated_lines"] == sorted(["Annual report", left_out])


def test_the_titles_of_slides_stay() -> None:
    pages = [
        [Text(72, 780, f"Step {number}", 24), *lines([f"{fruit} come here."])]
        for number, fruit in enumerate(FRUITS, start=1)
    ]
    page = parsed(*pages)
    assert [section.title for section in page.sections] == ["Step 1", "Step 2", "Step 3", "Step 4"]
    assert page.warnings == {}


def test_a_number_at_a_pages_end_that_does_not_count_pages_stays() -> None:
    assert parsed(lines(["Total", "", "700"]), lines(["Total", "", "12"])).text == "Total\n\n700\n\nTotal\n\n12"


LEFT = [f"Left column line {number} says something of its own" for number in range(8)]
RIGHT = [f"Right column line {number} says something as well" for number in range(8)]


@pytest.mark.parametrize("rowwise", [True, False])
def test_two_columns_are_read_one_after_the_other(rowwise: bool) -> None:
    pairs = [
        (Text(60, 700 - 14 * n, left, 10), Text(330, 700 - 14 * n, right, 10))
        for n, (left, right) in enumerate(zip(LEFT, RIGHT, strict=True))
    ]
    texts = [text for pair in pairs for text in pair]
    if not rowwise:
        texts.sort(key=lambda text: text.x)
    page = parsed([Text(60, 760, "A heading that stands across both of the columns", 16), *texts])
    body = page.text.partition("\n\n")[2]
    assert body.replace("\n\n", " ") == " ".join([*LEFT, *RIGHT])


def test_short_texts_in_rows_are_a_table() -> None:
    rows = [("Name", "Price", "Stock"), ("Pen | ink", "3", "12"), ("Pad", "", "9"), ("Cup", "4", "1")]
    cells = [
        Text(72 + 150 * column, 700 - 14 * row, cell)
        for row, texts in enumerate(rows)
        for column, cell in enumerate(texts)
        if cell
    ]
    page = parsed([Text(72, 740, "What we sell is in this table."), *cells, Text(72, 600, "That is all of it.")])
    assert page.text == (
        "What we sell is in this table.\n\n| Name | Price | Stock |\n| --- | --- | --- |\n| Pen \\| ink | 3 | 12 |\n"
        "| Pad |  | 9 |\n| Cup | 4 | 1 |\n\nThat is all of it."
    )


def test_bullets_are_a_list_and_their_lines_go_on() -> None:
    page = parsed(lines(["We sell:", "", "• pens, which are", "   blue", "• pads", "", "1. first", "2. second"]))
    assert page.text == "We sell:\n\n- pens, which are blue\n- pads\n\n1. first\n\n2. second"


@pytest.mark.parametrize(
    ("written", "text"),
    [
        (["שלום עולם"[::-1], "שורה שנייה"[::-1]], "שלום עולם שורה שנייה"),
        (["مرحبا بالعالم"[::-1]], "مرحبا بالعالم"),
        (["这是第一行文字没有空格", "第二行继续这一段。"], "这是第一行文字没有空格第二行继续这一段。"),
        (["첫 번째 줄은", "두 번째 줄로 이어진다."], "첫 번째 줄은 두 번째 줄로 이어진다."),
        (["Mathematics \U0001d4b3 and \U0001f600 stay."], "Mathematics \U0001d4b3 and \U0001f600 stay."),
    ],
)
def test_other_scripts_come_in_reading_order(written: list[str], text: str) -> None:
    assert parsed(lines(written)).text == text


def test_a_turned_page_is_read_like_any_other() -> None:
    data = pdf([lines(PROSE)])
    turned = data.replace(b"/MediaBox", b"/Rotate 90 /MediaBox")
    assert parse(turned, "a.pdf").text == parse(data, "a.pdf").text


def test_a_file_that_asks_for_no_password_to_be_read_is_read() -> None:
    assert parsed(lines(["Printing is forbidden."]), password="").text == "Printing is forbidden."


@pytest.mark.parametrize(
    ("data", "name", "text"),
    [
        (pdf([lines(["secret"])], password="open"), "encrypted", "without its password"),
        (pdf([[Scan()], [Scan()]]), "no_text_layer", "2 pages hold 2 images"),
        (pdf([lines(["glyphs"])], unmapped=True), "unmapped_text", "have no meaning in Unicode"),
        (pdf([lines(["cut off"])])[:400], "unreadable", "pdfium"),
        (b"%PDF-1.7 and nothing else", "unreadable", "pdfium"),
        (b"", "unreadable", "pdfium"),
    ],
    ids=["encrypted", "scan", "unmapped", "cut", "nothing", "empty"],
)
def test_what_is_refused_says_why(data: bytes, name: str, text: str) -> None:
    found, cause = reason(data)
    assert (found, text in cause) == (name, True)


def test_too_many_pages_are_refused() -> None:
    found, cause = reason(pdf([[]] * 5001))
    assert (found, "5001 pages, more than 5000" in cause) == ("too_many_pages", True)


def test_a_page_without_anything_is_empty_and_no_error() -> None:
    assert parsed([]).text == ""
