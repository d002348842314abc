"""What an order reads, by name and digest, and what can be said against it before any row is touched."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from anneal.curation.codec import Steps
from anneal.curation.domain.errors import AlreadySplit
from anneal.curation.domain.steps import SPLITTERS, Scoring
from anneal.curation.domain.steps.base import TRAIN
from anneal.curation.domain.steps.contradictions import Contradictions
from anneal.curation.domain.steps.decontaminate import Decontaminate
from anneal.curation.domain.steps.score_filter import ScoreFilter
from anneal.kit.datasets import DatasetReader
from anneal.kit.errors import Invalid
from anneal.kit.store import Store


@dataclass(frozen=True, slots=True, kw_only=True)
class Version:
    """A dataset version the order reads."""

    name: str
    digest: str


@dataclass(frozen=True, slots=True, kw_only=True)
class HeldOut:
    """A benchmark the order compares with.

    Attributes:
        digest: of the manifest that holds its rows.
        split: which of them.
    """

    name: str
    digest: str
    split: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Inputs:
    """All that an order reads.

    Attributes:
        index: digest of what the dataset's version before keeps for this one; empty for none.
    """

    sources: tuple[Version, ...]
    benchmarks: tuple[HeldOut, ...]
    index: str = ""


def check_inputs(store: Store, steps: Steps, inputs: Inputs) -> None:
    """Check an order against what it reads.

    Raises:
        Invalid: the sources are of different kinds.
        AlreadySplit: the rows have splits, and the order would split them.
        IndexIncomplete: a benchmark has no item, or one that no method can find again.
    """
    check_sources([DatasetReader(store, source.digest) for source in inputs.sources], steps, inputs.sources)
    for _, step in steps:
        if isinstance(step, Decontaminate):
            check_benchmarks(store, step, inputs.benchmarks)


def check_sources(readers: Sequence[DatasetReader], steps: Steps, sources: Sequence[Version]) -> None:
    """Check that the sources go together, and with the steps.

    Raises:
        Invalid: they are of different kinds, or a step is about scores, which documents do not have, or about the one
            answer of a row, where their rows are preferences.
        AlreadySplit: their rows have splits, and a step would split them.
    """
    for index, reader in enumerate(readers):
        kind, first = reader.manifest.kind, readers[0].manifest.kind
        if kind != first:
            raise Invalid.field(f"sources[{index}]", f"its rows are of the kind {kind}, those of the first {first}")
        for place, (name, step) in enumerate(steps):
            if kind == "document" and isinstance(step, Scoring | ScoreFilter):
                raise Invalid.field(
                    f"steps[{place}].step",
                    f"{name} is about scores, which documents do not have: give it conversations",
                )
            if kind == "preference" and isinstance(step, Scoring | Contradictions):
                raise Invalid.field(
                    f"steps[{place}].step",
                    f"{name} is about the one answer of a row, and preferences have two: give it conversations",
                )
        split = sorted(reader.manifest.splits.keys() - {TRAIN})
        if split and any(isinstance(step, SPLITTERS) for _, step in steps):
            name = sources[index].name
            raise AlreadySplit(f"{name} has the splits {', '.join(split)} already", dataset_version=name)


def check_benchmarks(store: Store, step: Decontaminate, benchmarks: Sequence[HeldOut]) -> None:
    """Index benchmarks as the job will, all but their vectors, so that what it would refuse is refused before.

    Raises:
        IndexIncomplete: one has no item, or one that no method can find again.
    """
    for held_out in benchmarks:
        if step.compares_with(held_out.name):
            batches = DatasetReader(store, held_out.digest).batches(held_out.split)
            step.index().add(held_out.name, batches, step.methods)
