"""Drop rows whose text repeats itself, as models that loop and pages of boilerplate do.

Rules and thresholds: Rae et al. 2021 (Gopher), arXiv:2112.11446, section A.1.1, table A1. Lines and paragraphs are
compared as they stand, without white space at their ends; words are what white space parts, after Unicode NFKC and in
lower case; the characters of an n-gram are those of its words.

Adapted to conversations: an answer of fewer than `min_words` words passes (a short one repeats itself by nature: of
"Yes, yes." one word is everything; the paper, too, drops pages below 50 words before). Fenced code does not count, nor
do lines without a letter or digit, such as rules of tables. The top n-gram is the one with the greatest share among
those that occur twice, not the most frequent.
"""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from anneal.curation.domain.prose import prose_of
from anneal.curation.domain.spans import Spans
from anneal.curation.domain.steps.base import Removal, Removals, need
from anneal.curation.domain.texts import Part, normalized, text_of

# Table A1: the highest shares of characters kept.
TOP = {2: 0.20, 3: 0.18, 4: 0.16}
DUPLICATE = {5: 0.15, 6: 0.14, 7: 0.13, 8: 0.12, 9: 0.11, 10: 0.10}
# Of a longer text the beginning is judged.
MAX_CHARACTERS = 1_000_000
_CHUNK_BYTES = 1 << 21
_HAS_WORD = re.compile(r"[^\W_]")


@dataclass(frozen=True, slots=True, kw_only=True)
class Repetition:
    """Drop a row of which too much repeats; a limit itself is allowed, 1 is no limit.

    Attributes:
        max_duplicate_lines: share of lines that stood before.
        max_duplicate_line_characters: their share of all lines' characters.
        max_duplicate_paragraphs: share of paragraphs (parted by blank lines) that stood before.
        max_duplicate_paragraph_characters: their share of all paragraphs' characters.
        scale: by what the table's limits for n-grams are multiplied, above 0; 2 allows twice as much.
        min_words: texts of fewer words pass.
        part: where to look.

    Raises:
        WrongSetting: a limit is outside 0 to 1, `scale` is not above 0, or `min_words` is below 1.
    """

    max_duplicate_lines: float = 0.30
    max_duplicate_line_characters: float = 0.20
    max_duplicate_paragraphs: float = 0.30
    max_duplicate_paragraph_characters: float = 0.20
    scale: float = 1.0
    min_words: int = 50
    part: Part = "answer"

    def __post_init__(self) -> None:
        for what in ("lines", "line_characters", "paragraphs", "paragraph_characters"):
            share = getattr(self, f"max_duplicate_{what}")
            need(0 <= share <= 1, f"max_duplicate_{what}", f"{share} is not within 0 and 1")
        need(self.scale > 0, "scale", f"{self.scale} is not above 0")
        need(self.min_words >= 1, "min_words", f"{self.min_words} is below 1")

    def judge_unwanted(self, batch: pa.RecordBatch) -> Removals:
        """None: an unwanted answer may repeat itself."""
        return {}

    def judge(self, batch: pa.RecordBatch) -> Removals:
        """The rows that repeat too much, with the first limit they miss: lines, paragraphs, n-grams by their size."""
        texts = pc.utf8_slice_codeunits(prose_of(text_of(batch, self.part)), 0, MAX_CHARACTERS)
        sizes = pc.binary_length(texts).to_numpy(zero_copy_only=False)
        # As many words have at least as many bytes, and one less between them.
        rows = np.flatnonzero(sizes >= 2 * self.min_words - 1)
        removals: dict[int, Removal] = {}
        # Few megabytes at a time: what is kept of each byte is many times as large.
        groups = np.cumsum(sizes[rows]) // _CHUNK_BYTES
        for group in np.unique(groups):
            some = rows[groups == group]
            for place, removal in self._judge_texts(texts.take(pa.array(some))).items():
                removals[int(some[place])] = removal
        return removals

    def _judge_texts(self, texts: pa.Array) -> dict[int, Removal]:
        words = Spans(normalized(texts))
        enough = words.counts >= self.min_words
        several = pc.match_substring(texts, "\n").to_numpy(zero_copy_only=False)
        removals = {
            int(row): removal
            for row in np.flatnonzero(enough & several)
            if (removal := self._judge_lines(texts[int(row)].as_py())) is not None
        }
        left = enough & ~np.isin(np.arange(len(texts)), list(removals))
        return removals | self._judge_ngrams(words.only(left), np.flatnonzero(left))

    def _judge_lines(self, text: str) -> Removal | None:
        lines = [line for line in map(str.strip, text.split("\n")) if _HAS_WORD.search(line)]
        paragraphs = [part for part in map(str.strip, re.split(r"\n\s*\n", text)) if _HAS_WORD.search(part)]
        for what, pieces in (("line", lines), ("paragraph", paragraphs)):
            repeated = [piece for piece, count in Counter(pieces).items() for _ in range(count - 1)]
            if not repeated:
                continue
            measured = {
                f"duplicate_{what}s": len(repeated) / len(pieces),
                f"duplicate_{what}_characters": sum(map(len, repeated)) / sum(map(len, pieces)),
            }
            for name, share in measured.items():
                limit = getattr(self, f"max_{name}")
                if share > limit:
                    return Removal(name, {"share": round(share, 4), f"max_{name}": limit})
        return None

    def _judge_ngrams(self, words: Spans, places: NDArray[np.int64]) -> dict[int, Removal]:
        removals: dict[int, Removal] = {}
        for n, allowed in (TOP | DUPLICATE).items():
            limit, kind = min(self.scale * allowed, 1.0), "top" if n in TOP else "duplicate"
            top, duplicate = words.shares(n)
            shares = top if n in TOP else duplicate
            for row in np.flatnonzero(shares > limit):
                numbers = {"ngram": n, "share": round(float(shares[row]), 4), "max_share": round(limit, 4)}
                removals[int(places[row])] = Removal(f"{kind}_ngrams", numbers)
            # What longer n-grams repeat shorter ones repeat, too; and the top one has at most four times the share of
            # those that stood before (four equal words overlap so much). Rows below that have nothing more to find.
            lowest = self.scale * (min(TOP.values()) / 4 if n < max(TOP) else min(DUPLICATE.values()))
            left = (shares <= limit) & (duplicate > lowest)
            words, places = words.only(left), places[left]
        return removals
