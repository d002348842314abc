"""The table of steps: one file each, one line here."""

from __future__ import annotations

from collections.abc import Mapping

from anneal.curation.domain.steps.decontaminate import Decontaminate
from anneal.curation.domain.steps.exact_duplicates import ExactDuplicates
from anneal.curation.domain.steps.format import Format
from anneal.curation.domain.steps.fuzzy_duplicates import FuzzyDuplicates
from anneal.curation.domain.steps.grouped_split import GroupedSplit
from anneal.curation.domain.steps.keywords import Keywords
from anneal.curation.domain.steps.length import Length
from anneal.curation.domain.steps.mix import Mix
from anneal.curation.domain.steps.sample import Sample
from anneal.curation.domain.steps.split import Split

Step = (
    Decontaminate | ExactDuplicates | Format | FuzzyDuplicates | GroupedSplit | Keywords | Length | Mix | Sample | Split
)

# At most one of these in a pipeline: each gives every row its split.
SPLITTERS = (Split, GroupedSplit)

STEPS: Mapping[str, type[Step]] = {
    "decontaminate": Decontaminate,
    "exact_duplicates": ExactDuplicates,
    "format": Format,
    "fuzzy_duplicates": FuzzyDuplicates,
    "grouped_split": GroupedSplit,
    "keywords": Keywords,
    "length": Length,
    "mix": Mix,
    "sample": Sample,
    "split": Split,
}
