"""What rows and benchmarks have in common, counted from the rows that a decontamination removed or would remove.

Nothing is counted while rows are judged: every removed row says by which benchmark, item and reason, so a report can be
made at any time, and again.
"""

from __future__ import annotations

import heapq
import json
import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from difflib import SequenceMatcher

from anneal.curation.domain.steps.decontaminate import REASONS

EXAMPLES = 5
EXCERPT_CHARACTERS = 240
MAX_COMPARED_WORDS = 2_000
_WORD = re.compile(r"\w+")


@dataclass(frozen=True, slots=True, order=True)
class Example:
    """A row that holds an item."""

    row: str
    item: str
    reason: str


@dataclass(slots=True)
class Tally:
    """What rows have in common with one benchmark.

    Attributes:
        items: ids of the items that rows hold.
        rows: how many rows, by reason.
        examples: the first rows, by id.
    """

    items: set[str] = field(default_factory=set)
    rows: Counter[str] = field(default_factory=Counter)
    examples: list[Example] = field(default_factory=list)

    def add(self, found: Example) -> None:
        """Count a row."""
        self.items.add(found.item)
        self.rows[found.reason] += 1
        self.examples = heapq.nsmallest(EXAMPLES, [*self.examples, found])


def tally(removals: Iterable[tuple[str, str, str, str]]) -> Mapping[str, Tally]:
    """Count removed rows by benchmark; those that left for another reason are passed over.

    Args:
        removals: row, reason, numbers as JSON, and id of the item, of each removed row.
    """
    tallies: dict[str, Tally] = {}
    for row, reason, numbers, item in removals:
        if reason in REASONS.values():
            benchmark = json.loads(numbers).get("benchmark", "")
            tallies.setdefault(benchmark, Tally()).add(Example(row, item or "", reason))
    return dict(sorted(tallies.items()))


@dataclass(frozen=True, slots=True)
class Shared:
    """What two texts share.

    Attributes:
        words: the longest run of words in both, as the first has it; empty where they share none.
        left: an excerpt of the first text.
        right: one of the second.
    """

    words: str
    left: str
    right: str


def shared(left: str, right: str) -> Shared:
    """The longest run of words in both texts, and what stands around it in each."""
    spans = [[match.span() for match in _WORD.finditer(text)][:MAX_COMPARED_WORDS] for text in (left, right)]
    ours, theirs = (
        [text[start:end].lower() for start, end in found] for text, found in zip((left, right), spans, strict=True)
    )
    run = SequenceMatcher(None, ours, theirs, autojunk=False).find_longest_match()
    if not run.size:
        return Shared("", _excerpt(left, 0), _excerpt(right, 0))
    first, last = spans[0][run.a][0], spans[0][run.a + run.size - 1][1]
    return Shared(_line(left[first:last]), _excerpt(left, first), _excerpt(right, spans[1][run.b][0]))


def _excerpt(text: str, around: int) -> str:
    start = max(0, around - EXCERPT_CHARACTERS // 4)
    return ("…" if start else "") + _line(text[start:])


def _line(text: str) -> str:
    line = " ".join(text[: 4 * EXCERPT_CHARACTERS].split())
    return line if len(line) <= EXCERPT_CHARACTERS else line[: EXCERPT_CHARACTERS - 1] + "…"
