"""The table of steps: one file each, one line here."""

from __future__ import annotations

from collections.abc import Mapping

from anneal.curation.domain.steps.decontaminate import Decontaminate
from anneal.curation.domain.steps.exact_duplicates import ExactDuplicates
from anneal.curation.domain.steps.format import Format
from anneal.curation.domain.steps.fuzzy_duplicates import FuzzyDuplicates
from anneal.curation.domain.steps.keywords import Keywords
from anneal.curation.domain.steps.length import Length
from anneal.curation.domain.steps.semantic_duplicates import SemanticDuplicates
from anneal.curation.domain.steps.split import Split

Step = Decontaminate | ExactDuplicates | Format | FuzzyDuplicates | Keywords | Length | SemanticDuplicates | Split

STEPS: Mapping[str, type[Step]] = {
    "decontaminate": Decontaminate,
    "exact_duplicates": ExactDuplicates,
    "format": Format,
    "fuzzy_duplicates": FuzzyDuplicates,
    "keywords": Keywords,
    "length": Length,
    "semantic_duplicates": SemanticDuplicates,
    "split": Split,
}
