"""Drop rows that hold a word or phrase of a list.

A phrase counts only as whole words, in any case; white space in it stands for any run of white space.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache

import pyarrow as pa
import pyarrow.compute as pc

from anneal.curation.domain.steps.base import Removal, Removals, need
from anneal.curation.domain.texts import Part, text_of

MAX_PHRASES = 10_000
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
        texts = text_of(batch, self.part)
        rough, exact = _patterns(self.exclude)
        suspects = pc.indices_nonzero(pc.match_substring_regex(texts, rough, ignore_case=True)).to_pylist()
        removals = {}
        for row in suspects:
            found = exact.findall(texts[row].as_py())
            if found:
                phrase = " ".join(found[0].lower().split())
                removals[row] = Removal("excluded_keyword", {"keyword": phrase, "matches": len(found)})
        return removals


@lru_cache(maxsize=8)
def _patterns(phrases: tuple[str, ...]) -> tuple[str, re.Pattern[str]]:
    """A pattern for RE2, which knows no look-around, that finds too much, and the exact one for what it found."""
    split = [phrase.split() for phrase in sorted(phrases, key=lambda phrase: (-len(phrase), phrase))]
    rough = "|".join(_SPACES.join(_quoted(word) for word in words) for words in split)
    exact = "|".join(r"\s+".join(re.escape(word) for word in words) for words in split)
    return rough, re.compile(rf"(?<!\w)(?:{exact})(?!\w)", re.IGNORECASE)


def _quoted(word: str) -> str:
    return "".join(mark if mark.isalnum() or mark == "_" else f"\\x{{{ord(mark):x}}}" for mark in word)
