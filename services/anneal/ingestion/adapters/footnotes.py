"""Footnotes of books and of Word files, as Markdown writes them: `[^1]` in the text, `[^1]: ...` where they stand."""

from __future__ import annotations

import re

from lxml.html import HtmlElement

from anneal.ingestion.adapters.inline_markup import plain

_TYPE = "{http://www.idpf.org/2007/ops}type"
_REFERENCES = frozenset({"noteref", "doc-noteref"})
_NOTES = frozenset({"footnote", "endnote", "rearnote", "doc-footnote", "doc-endnote"})
_BACKLINKS = frozenset({"backlink", "doc-backlink"})
_WORD_REFERENCE = re.compile(r"(?:footnote|endnote)-ref-")
_WORD_NOTE = re.compile(r"(?:footnote|endnote)-(?!ref-)")
_ARROWS = frozenset({"↑", "↩", "↩︎", "^", "⏎"})


def mark_footnotes(root: HtmlElement, prefix: str = "") -> int:
    """Write the footnotes below `root` as Markdown's; returns how many.

    Args:
        root: changed in place.
        prefix: put before each label, where labels of several files meet.
    """
    labels: dict[str, str] = {}
    for link in list(root.iter("a")):
        if _is_reference(link):
            target = (link.get("href") or "").rpartition("#")[2]
            label = labels.setdefault(target, prefix + (re.sub(r"\W", "", plain(link)) or str(len(labels) + 1)))
            _replace_content(link, f"[^{label}]")
    for note in [element for element in root.iter() if _is_footnote(element)]:
        label = labels.get(note.get("id") or "", "")
        if not label:
            continue
        for link in list(note.iter("a")):
            if _kinds(link) & _BACKLINKS or plain(link) in _ARROWS:
                _replace_content(link, "")
        if note.tag in ("li", "aside"):
            note.tag = "div"
        parent = note.getparent()
        if parent is not None and parent.tag == "ol":
            parent.tag = "div"
        first = next((child for child in note.iter("p")), note)
        first.text = f"[^{label}]: {(first.text or '').lstrip()}"
    return len(labels)


def _kinds(element: HtmlElement) -> set[str]:
    if not isinstance(element.tag, str):
        return set()
    named = f"{element.get(_TYPE) or ''} {element.get('epub:type') or ''} {element.get('role') or ''}"
    return set(named.split())


def _is_reference(link: HtmlElement) -> bool:
    return bool(_kinds(link) & _REFERENCES) or bool(_WORD_REFERENCE.match(link.get("id") or ""))


def _is_footnote(element: HtmlElement) -> bool:
    if not isinstance(element.tag, str):
        return False
    is_words = element.tag == "li" and bool(_WORD_NOTE.match(element.get("id") or ""))
    return is_words or bool(_kinds(element) & _NOTES)


def _replace_content(element: HtmlElement, text: str) -> None:
    for child in list(element):
        element.remove(child)
    element.text = text
