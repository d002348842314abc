"""Drop rows that hold personal data or secrets; domain/pii.py says what is found and what is not."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

import pyarrow as pa

from anneal.curation.domain.pii import PII_KINDS, PiiKind, find_pii, suspects_of
from anneal.curation.domain.steps.base import Removal, Removals, need
from anneal.curation.domain.texts import Part, turns_of


@dataclass(frozen=True, slots=True, kw_only=True)
class PiiFilter:
    """Drop a row that holds something of the kinds; reasons are `pii_email`, `pii_phone` and so on.

    Attributes:
        kinds: what is looked for; a row with several leaves for the first of them in the order of `PII_KINDS`.
        part: where to look.

    Raises:
        WrongSetting: no kind is named, or one twice.
    """

    kinds: tuple[PiiKind, ...] = PII_KINDS
    part: Part = "conversation"

    def __post_init__(self) -> None:
        need(0 < len(self.kinds) == len(set(self.kinds)), "kinds", "none is named, or one twice")

    def judge(self, batch: pa.RecordBatch) -> Removals:
        """The rows that hold any, with how many of each kind: the finds themselves are told nowhere."""
        texts, rows = turns_of(batch, self.part, names=True)
        counts: dict[int, Counter[PiiKind]] = {}
        for turn, kinds in sorted(suspects_of(texts, self.kinds).items()):
            found = find_pii(texts[turn].as_py(), kinds)
            if found:
                counts.setdefault(int(rows[turn]), Counter()).update(one.kind for one in found)
        return {
            row: Removal(f"pii_{min(found, key=PII_KINDS.index)}", dict(sorted(found.items())))
            for row, found in counts.items()
        }
