"""Drop rows that hold a word or phrase of a list.

A phrase counts only as whole words within one message, in any case; white space in it stands for any run of white
space.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache, reduce

import pyarrow as pa
import pyarrow.compute as pc

from anneal.curation.domain.steps.base import Removal, Removals, need
from anneal.curation.domain.texts import Part, turns_of

MAX_PHRASES = 10_000
# Phrases per pattern: RE2's automaton for many more outgrows its memory, and then it is some hundred times slower.
_PER_PATTERN = 500
# Wide enough to find all that Python's `\s` finds: RE2's own `\s` is ASCII.
_SPACES = r"[\s\x0b\x1c-\x1f\x{85}\p{Z}]+"


@dataclass(frozen=True, slots=True, kw_only=True)
class Keywords:
    """Drop a row that holds an excluded word or phrase.

    Attributes:
        exclude: words and phrases, 1 to 10,000.
        part: where to look.

    Raises:
        WrongSetting: the list is empty or too long, or a phrase is blank.
    """

    exclude: tuple[str, ...]
    part: Part = "conversation"

    def __post_init__(self) -> None:
        need(
            0 < len(self.exclude) <= MAX_PHRASES, "exclude", f"{len(self.exclude)} phrases are not within 1 and 10,000"
        )
        for index, phrase in enumerate(self.exclude):
            need(bool(phrase.strip()), f"exclude[{index}]", "is blank")

    def judge(self, batch: pa.RecordBatch) -> Removals:
        """The rows that hold a phrase, with the first one found and how often any was."""
        texts, rows = turns_of(batch, self.part)
        rough, exact = _patterns(self.exclude)
        is_suspect = [pc.match_substring_regex(texts, pattern, ignore_case=True) for pattern in rough]
        found: dict[int, list[str]] = {}
        for turn in pc.indices_nonzero(reduce(pc.or_, is_suspect)).to_pylist():
            phrases = exact.findall(texts[turn].as_py())
            if phrases:
                found.setdefault(int(rows[turn]), []).extend(phrases)
        return {
            row: Removal("excluded_keyword", {"keyword": " ".join(phrases[0].lower().split()), "matches": len(phrases)})
            for row, phrases in found.items()
        }


@lru_cache(maxsize=8)
def _patterns(phrases: tuple[str, ...]) -> tuple[Sequence[str], re.Pattern[str]]:
    """Patterns for RE2, which knows no look-around, that find too much, and the exact one for what they found."""
    rough = [_SPACES.join(_quoted(word) for word in phrase.split()) for phrase in sorted(phrases)]
    longest_first = sorted(phrases, key=lambda phrase: (-len(phrase), phrase))
    exact = "|".join(r"\s+".join(re.escape(word) for word in phrase.split()) for phrase in longest_first)
    packs = ["|".join(rough[first : first + _PER_PATTERN]) for first in range(0, len(rough), _PER_PATTERN)]
    return packs, re.compile(rf"(?<!\w)(?:{exact})(?!\w)", re.IGNORECASE)


def _quoted(word: str) -> str:
    return "".join(mark if mark.isalnum() or mark == "_" else f"\\x{{{ord(mark):x}}}" for mark in word)
