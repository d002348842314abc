"""What a parser makes of one file: clean text, and what its markup said about parts of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Section:
    """One heading and all that stands under it.

    Attributes:
        level: 1 for the highest heading.
        title: the heading as plain text.
        start: offset in characters where the heading's line begins.
        end: offset where the next heading of the same or a higher level begins, or the text ends.
    """

    level: int
    title: str
    start: int
    end: int

    def to_dict(self) -> dict[str, object]:
        """Return the JSON form kept in a document's `meta`."""
        return {"level": self.level, "title": self.title, "start": self.start, "end": self.end}


@dataclass(frozen=True, slots=True)
class Span:
    """One entry that the markup itself describes, such as a documented function.

    Attributes:
        type: the markup's own class for the entry: "function", "class", "method", "opcode", ...
        name: the entry's identifier in the markup, such as "shutil.copyfile".
        start: offset in characters where the signature's line begins.
        end: offset where the entry ends, entries nested in it included.
        body_start: offset where the text below the signatures begins; equals `end` for an empty body.
        signature: the (first) signature on one line.
        params: parameter names as the markup gives them, with a leading `*` or `**` where there is one.
        domain: the markup's own name space: "py", "std", "c", ...
    """

    type: str
    name: str
    start: int
    end: int
    body_start: int
    signature: str
    params: tuple[str, ...] = ()
    domain: str = "py"

    def to_dict(self) -> dict[str, object]:
        """Return the JSON form kept in a document's `meta`."""
        return {
            "type": self.type,
            "name": self.name,
            "start": self.start,
            "end": self.end,
            "body_start": self.body_start,
            "signature": self.signature,
            "params": list(self.params),
            "domain": self.domain,
        }


@dataclass(frozen=True, slots=True)
class Page:
    """Where a page's text stands; a page without text has none.

    Attributes:
        number: counted from 1, whatever is printed on it.
        start: offset in characters where its text begins.
        end: offset where that of the next page begins, or the text ends.
    """

    number: int
    start: int
    end: int

    def to_dict(self) -> dict[str, object]:
        """Return the JSON form kept in a document's `meta`."""
        return {"number": self.number, "start": self.start, "end": self.end}


@dataclass(frozen=True, slots=True)
class ParsedDocument:
    """One file as clean text. All offsets count characters of `text`.

    Attributes:
        text: the main content, NFC, lines ended by a single line feed, no control characters.
        title: the page's own title; empty where it has none.
        uri: the file's path in its upload, which also names the group its rows belong to.
        media_type: what the file was parsed as.
        language: BCP 47 tag that the file declares; None where it declares none.
        sections: headings in the order of the text.
        spans: described entries in the order of the text.
        notes: what a reader of the row may want to know about the parsing: encoding, extractor.
        pages: pages in the order of the text, of a format that has them.
        properties: what the file says of itself: author, dates, its front matter.
        warnings: what was left out or is uncertain, `what -> how often`, such as `images_left_out`.
    """

    text: str
    title: str
    uri: str
    media_type: str
    language: str | None = None
    sections: tuple[Section, ...] = ()
    spans: tuple[Span, ...] = ()
    notes: Mapping[str, object] = field(default_factory=dict)
    pages: tuple[Page, ...] = ()
    properties: Mapping[str, object] = field(default_factory=dict)
    warnings: Mapping[str, int] = field(default_factory=dict)

    def meta(self) -> dict[str, object]:
        """Return what the document row's `meta` column holds, before it becomes JSON."""
        parsing = {**self.notes, **({"warnings": dict(self.warnings)} if self.warnings else {})}
        meta: dict[str, object] = {
            "sections": [section.to_dict() for section in self.sections],
            "spans": [span.to_dict() for span in self.spans],
            "parsing": parsing,
        }
        if self.pages:
            meta["pages"] = [page.to_dict() for page in self.pages]
        if self.properties:
            meta["properties"] = dict(self.properties)
        return meta

    def place(self, start: int, end: int) -> dict[str, object]:
        """Return where `text[start:end]` stands: the headings above its first line, and its pages, where there are."""
        place: dict[str, object] = {}
        if titles := [section.title for section in self.sections if section.start <= start < section.end]:
            place["headings"] = titles
        if numbers := [page.number for page in self.pages if page.start < end and start < page.end]:
            place["pages"] = numbers
        return place


def close_sections(headings: list[tuple[int, str, int]], text_length: int) -> tuple[Section, ...]:
    """Turn headings (level, title, start), in the order of the text, into sections that know their ends."""
    sections = []
    for index, (level, title, start) in enumerate(headings):
        later = (other for other in headings[index + 1 :] if other[0] <= level)
        following = next(later, None)
        sections.append(Section(level, title, start, following[2] if following else text_length))
    return tuple(sections)
