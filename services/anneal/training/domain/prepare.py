"""From rows to packed rows, with everything counted on the way."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from transformers import PreTrainedTokenizerBase

from anneal.training.domain.checks import check_samples
from anneal.training.domain.objectives import OBJECTIVES
from anneal.training.domain.packing import pack
from anneal.training.domain.samples import Sample, Samples, fit_to_context
from anneal.training.domain.spec import TrainingSpec
from anneal.training.domain.template import ChatTemplate


@dataclass(frozen=True, slots=True)
class Prepared:
    """One split, ready for the loop."""

    samples: Samples
    rows: list[list[Sample]]
    context_tokens: int

    @property
    def packing_efficiency(self) -> float:
        """Share of positions that hold a token, 0 to 1."""
        room = len(self.rows) * self.context_tokens
        return self.samples.num_tokens / room if room else 0.0

    @property
    def mask_coverage(self) -> float:
        """Share of tokens the loss is taken over, 0 to 1."""
        return self.samples.num_targets / self.samples.num_tokens if self.samples.num_tokens else 0.0


def choose_rows(rows: Sequence[Mapping[str, Any]], max_rows: int) -> Sequence[Mapping[str, Any]]:
    """Return at most `max_rows` rows (0: all), chosen by their id and kept in their order."""
    if not max_rows or len(rows) <= max_rows:
        return rows
    chosen = set(sorted(range(len(rows)), key=lambda i: (rows[i]["id"], i))[:max_rows])
    return [row for i, row in enumerate(rows) if i in chosen]


def prepare(
    rows: Iterable[Mapping[str, Any]],
    spec: TrainingSpec,
    tokenizer: PreTrainedTokenizerBase,
    *,
    is_needed: bool,
    template: ChatTemplate | None = None,
) -> Prepared:
    """Tokenize, check, fit and pack one split.

    Args:
        rows: conversations or documents, as the objective reads them.
        spec: with `context_tokens` already settled.
        tokenizer: the base model's.
        is_needed: refuse when nothing is left; a validation split may be empty.
        template: the base model's; None takes the tokenizer's with nothing else known.

    Raises:
        TrainingRefused: a row cannot be trained on, or nothing is left; see the subclasses.
    """
    objective = OBJECTIVES[spec.objective](
        tokenizer,
        context_tokens=spec.context_tokens,
        template=template,
        strict=spec.left_out == "refuse",
        shorten=spec.overlong == "truncate_left",
    )
    samples = fit_to_context(objective.samples(rows), context_tokens=spec.context_tokens, overlong=spec.overlong)
    samples.counts.update(objective.counts)
    if is_needed:
        check_samples(samples)
    packed = pack(samples.kept, context_tokens=spec.context_tokens, packed=spec.packed)
    return Prepared(samples, packed, spec.context_tokens)
