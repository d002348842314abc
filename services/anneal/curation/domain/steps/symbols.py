"""Drop rows whose text is symbols, bullets or debris more than words.

Rules and thresholds: Rae et al. 2021 (Gopher), arXiv:2112.11446, section A.1.1, quality filtering. Words are what white
space parts. Differs from the paper: fenced code and the hashes of Markdown headings do not count; texts of fewer than
`min_words` words pass, where the paper drops pages below 50; the length of words is judged only where white space parts
them (not in Chinese or Japanese), and stop words only in English, which py3langid must confirm. Of C4's rules (Raffel
et al. 2020, arXiv:1910.10683) curly braces and "javascript" are left out: they would drop answers about code. So is
"lorem ipsum": `keywords` drops it where it is unwanted.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from anneal.curation.domain.counts import count_fields
from anneal.curation.domain.languages import languages_of
from anneal.curation.domain.prose import prose_of
from anneal.curation.domain.steps.base import Removal, Removals, need
from anneal.curation.domain.steps.language import MAX_CHARACTERS
from anneal.curation.domain.texts import IS_SPACE, Part, bytes_of, text_of

_STOP_WORDS = ("the", "be", "to", "of", "and", "that", "have", "with")
_BULLET = r"(?m)^[ \t]*(?:[-*+]|[\x{2022}\x{2023}\x{25aa}\x{25cf}\x{25e6}])[ \t]"
_ELLIPSIS = r"\.\.\.|\x{2026}"
_ELLIPSIS_END = r"(?m)(?:\.\.\.|\x{2026})[ \t\r]*$"
# From U+0E00 on most scripts put no spaces between words.
_UNSPACED = r"[\x{e00}-\x{eff}\x{1000}-\x{109f}\x{1780}-\x{17ff}\x{3040}-\x{30ff}\x{3400}-\x{9fff}]"
_MAX_UNSPACED = 0.2
_SURE = 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class Symbols:
    """Drop a row outside a limit; a limit itself is allowed, None is no limit.

    Attributes:
        max_hashes_per_word: `#` per word, outside headings.
        max_ellipses_per_word: ellipses, of three dots or one sign, per word.
        max_bullet_lines: share of lines, blank ones not counted, that open with a bullet.
        max_ellipsis_lines: share of lines that end with an ellipsis.
        min_alphabetic_words: share of words with at least one letter.
        min_word_characters: fewest characters per word on average.
        max_word_characters: most characters per word on average.
        min_stop_words: fewest different ones of the, be, to, of, and, that, have, with in an English text.
        min_words: texts of fewer words pass.
        part: where to look.

    Raises:
        WrongSetting: a limit is outside its range, a minimum is above its maximum, or there is no limit at all.
    """

    max_hashes_per_word: float | None = 0.1
    max_ellipses_per_word: float | None = 0.1
    max_bullet_lines: float | None = 0.9
    max_ellipsis_lines: float | None = 0.3
    min_alphabetic_words: float | None = 0.8
    min_word_characters: float | None = 3.0
    max_word_characters: float | None = 10.0
    min_stop_words: int | None = 2
    min_words: int = 50
    part: Part = "answer"

    def __post_init__(self) -> None:
        limits = [name for name in self.__slots__ if name.startswith(("min_", "max_")) and name != "min_words"]
        need(any(getattr(self, name) is not None for name in limits), limits[0], "there is no limit at all")
        for name in limits:
            value = getattr(self, name)
            need(value is None or value >= 0, name, f"{value} is negative")
            need(value is None or name not in _SHARES or value <= 1, name, f"{value} is above 1")
        low, high = self.min_word_characters, self.max_word_characters
        fits = low is None or high is None or low <= high
        need(fits, "max_word_characters", f"{high} is below min_word_characters {low}")
        known = len(_STOP_WORDS)
        need((self.min_stop_words or 0) <= known, "min_stop_words", f"{self.min_stop_words} are more than {known}")
        need(self.min_words >= 1, "min_words", f"{self.min_words} is below 1")

    def judge_unwanted(self, batch: pa.RecordBatch) -> Removals:
        """None: an unwanted answer may be made of anything."""
        return {}

    def judge(self, batch: pa.RecordBatch) -> Removals:
        """The rows outside a limit, with the first limit they miss."""
        texts = prose_of(text_of(batch, self.part))
        words, _ = count_fields(texts)
        rows = np.flatnonzero(words >= self.min_words)
        removals: dict[int, Removal] = {}
        if not len(rows):
            return removals
        texts, words = texts.take(pa.array(rows)), words[rows]
        known: dict[_Measure, NDArray[Any]] = {}
        for name, reason, measure in _RULES:
            limit = getattr(self, name)
            if limit is None:
                continue
            if measure not in known:
                known[measure] = measure(texts, words)
            values = known[measure]
            misses = values < limit if name.startswith("min_") else values > limit
            if name == "min_stop_words":
                misses = _in_english(texts, misses)
            for place in np.flatnonzero(misses):
                numbers = {"measured": round(float(values[place]), 4), name: limit}
                removals.setdefault(int(rows[place]), Removal(reason, numbers))
        return removals


def _count(texts: pa.Array, pattern: str) -> NDArray[np.int64]:
    counts: NDArray[np.int64] = pc.count_substring_regex(texts, pattern).to_numpy(zero_copy_only=False)
    return counts


def _hashes(texts: pa.Array, words: NDArray[np.int64]) -> NDArray[np.float64]:
    hashes: NDArray[np.int64] = pc.count_substring(texts, "#").to_numpy(zero_copy_only=False)
    some = np.flatnonzero(hashes > 0)
    if len(some):
        bare = pc.replace_substring_regex(texts.take(pa.array(some)), r"(?m)^ {0,3}#{1,6}[ \t]", "")
        hashes = hashes.copy()
        hashes[some] = pc.count_substring(bare, "#").to_numpy(zero_copy_only=False)
    shares: NDArray[np.float64] = hashes / words
    return shares


def _per_line(texts: pa.Array, pattern: str) -> NDArray[np.float64]:
    found = _count(texts, pattern)
    lines = pc.count_substring(texts, "\n").to_numpy(zero_copy_only=False) + 1
    # Blank lines count only where it could matter.
    some = np.flatnonzero(found > 0)
    lines[some] = [sum(map(bool, map(str.strip, text.split("\n")))) for text in texts.take(pa.array(some)).to_pylist()]
    shares: NDArray[np.float64] = found / lines
    return shares


def _word_characters(texts: pa.Array, words: NDArray[np.int64]) -> NDArray[np.float64]:
    """Characters per word; not a number, which is outside no limit, where white space does not part words."""
    octets, offsets = bytes_of(texts)
    spaces = np.concatenate(([0], np.cumsum(IS_SPACE[octets])))
    characters = pc.utf8_length(texts).to_numpy(zero_copy_only=False) - np.diff(spaces[offsets])
    if pc.all(pc.string_is_ascii(texts)).as_py():
        lengths: NDArray[np.float64] = characters / words
        return lengths
    unspaced = _count(texts, _UNSPACED) > _MAX_UNSPACED * characters
    return np.where(unspaced, np.nan, characters / words)


def _stop_words(texts: pa.Array, words: NDArray[np.int64]) -> NDArray[np.int64]:
    found = np.zeros(len(words), dtype=np.int64)
    for word in _STOP_WORDS:
        has = pc.match_substring_regex(texts, rf"\b{word}\b", ignore_case=True)
        found += has.to_numpy(zero_copy_only=False)
    return found


def _in_english(texts: pa.Array, suspects: NDArray[np.bool_]) -> NDArray[np.bool_]:
    places = np.flatnonzero(suspects)
    openings = pc.utf8_slice_codeunits(texts.take(pa.array(places)), 0, MAX_CHARACTERS).to_pylist()
    for place, (language, confidence) in zip(places, languages_of(openings), strict=True):
        suspects[place] = language == "en" and confidence >= _SURE
    return suspects


_SHARES = ("max_bullet_lines", "max_ellipsis_lines", "min_alphabetic_words")
_Measure = Callable[[pa.Array, NDArray[np.int64]], NDArray[Any]]
# Setting, reason, and what is measured.
_RULES: Sequence[tuple[str, str, _Measure]] = (
    ("max_hashes_per_word", "too_many_hashes", _hashes),
    ("max_ellipses_per_word", "too_many_ellipses", lambda texts, words: _count(texts, _ELLIPSIS) / words),
    ("max_bullet_lines", "too_many_bullets", lambda texts, _: _per_line(texts, _BULLET)),
    ("max_ellipsis_lines", "too_many_ellipsis_lines", lambda texts, _: _per_line(texts, _ELLIPSIS_END)),
    ("min_alphabetic_words", "too_few_alphabetic_words", lambda texts, words: count_fields(texts)[1] / words),
    ("min_word_characters", "words_too_short", _word_characters),
    ("max_word_characters", "words_too_long", _word_characters),
    ("min_stop_words", "too_few_stop_words", _stop_words),
)
