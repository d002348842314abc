"""Documents cut into chunks that know where they stand in their document."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from semantic_text_splitter import MarkdownSplitter, TextSplitter

from anneal.ingestion.domain.chunk_joining import Joiner
from anneal.ingestion.domain.documents import ParsedDocument


@dataclass(frozen=True, slots=True)
class Chunk:
    """A piece of a document: `text[start:end]`, in characters."""

    index: int
    start: int
    end: int


def cut(document: ParsedDocument, max_characters: int, overlap: int, min_characters: int = 0) -> Iterator[Chunk]:
    """Cut at the largest border that fits: section, paragraph, sentence, word.

    A chunk that says nothing by itself, such as a heading alone, is joined to a neighbour.

    Args:
        document: text of any length.
        max_characters: longest chunk.
        overlap: characters that neighbours may share, below `max_characters`.
        min_characters: shortest chunk, at most half of the longest; only a shorter document has a shorter one.
    """
    kind = TextSplitter if document.media_type == "text/plain" else MarkdownSplitter
    splitter = kind(max_characters, overlap=overlap)
    spans = []
    for index, (start, text) in enumerate(splitter.chunk_indices(document.text)):
        end = start + len(text)
        if document.text[start:end] != text:
            raise ValueError(f"{document.uri}: chunk {index} does not stand at {start}")
        spans.append((start, end))
    joiner = Joiner(text=document.text, max_characters=max_characters, min_characters=min_characters, overlap=overlap)
    for index, (start, end) in enumerate(joiner.join(spans)):
        yield Chunk(index, start, end)
