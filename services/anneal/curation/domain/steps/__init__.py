"""The table of steps: one file each, one line here."""

from __future__ import annotations

from collections.abc import Mapping

from anneal.curation.domain.steps.contradictions import Contradictions
from anneal.curation.domain.steps.decontaminate import Decontaminate
from anneal.curation.domain.steps.exact_duplicates import ExactDuplicates
from anneal.curation.domain.steps.format import Format
from anneal.curation.domain.steps.fuzzy_duplicates import FuzzyDuplicates
from anneal.curation.domain.steps.keywords import Keywords
from anneal.curation.domain.steps.language import Language
from anneal.curation.domain.steps.length import Length
from anneal.curation.domain.steps.pii_filter import PiiFilter
from anneal.curation.domain.steps.pii_mask import PiiMask
from anneal.curation.domain.steps.refusals import Refusals
from anneal.curation.domain.steps.repetition import Repetition
from anneal.curation.domain.steps.split import Split
from anneal.curation.domain.steps.symbols import Symbols

Step = (
    Contradictions
    | Decontaminate
    | ExactDuplicates
    | Format
    | FuzzyDuplicates
    | Keywords
    | Language
    | Length
    | PiiFilter
    | PiiMask
    | Refusals
    | Repetition
    | Split
    | Symbols
)

STEPS: Mapping[str, type[Step]] = {
    "contradictions": Contradictions,
    "decontaminate": Decontaminate,
    "exact_duplicates": ExactDuplicates,
    "format": Format,
    "fuzzy_duplicates": FuzzyDuplicates,
    "keywords": Keywords,
    "language": Language,
    "length": Length,
    "pii_filter": PiiFilter,
    "pii_mask": PiiMask,
    "refusals": Refusals,
    "repetition": Repetition,
    "split": Split,
    "symbols": Symbols,
}
