"""A sample: one independent sequence of tokens, and what happened to those that did not fit."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from anneal.training.domain.errors import SampleTooLong


@dataclass(frozen=True, slots=True)
class Span:
    """Where the answer of a turn stands in a sample: tokens `start` to `end`, after the prompt of `start` tokens."""

    turn: int
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class Sample:
    """One sequence that must not see any other.

    Attributes:
        token_ids: the sequence.
        is_target: whether token i is to be predicted from the tokens before it; never true for the first.
        row_id: id of the row it was made from.
        is_truncated: its end, or its earliest turns, were cut off.
        weights: what the loss multiplies each token's part by; None where that is 1 for every target.
        spans: the learned turns, where it is a conversation.
        messages: the conversation that was left, where its earliest turns were cut off.
    """

    token_ids: list[int]
    is_target: list[bool]
    row_id: str
    is_truncated: bool = False
    weights: list[float] | None = None
    spans: tuple[Span, ...] = ()
    messages: tuple[Mapping[str, Any], ...] | None = None

    def __len__(self) -> int:
        """Number of tokens."""
        return len(self.token_ids)

    @property
    def num_targets(self) -> int:
        """Number of tokens the loss covers."""
        return sum(self.is_target[1:])


@dataclass(slots=True)
class Samples:
    """All samples of one split, and the count of what happened on the way.

    `counts` holds `rows`, `samples`, `truncated`, `dropped_too_long`, `dropped_nothing_left`, `empty_rows` and
    `left_out:<field>`.
    """

    kept: list[Sample] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)

    @property
    def num_tokens(self) -> int:
        """Tokens over all kept samples."""
        return sum(len(s) for s in self.kept)

    @property
    def num_targets(self) -> int:
        """Tokens the loss covers over all kept samples."""
        return sum(s.num_targets for s in self.kept)


def fit_to_context(samples: Iterable[Sample], *, context_tokens: int, overlong: str) -> Samples:
    """Apply the policy for samples longer than the context, and count what it did.

    Raises:
        SampleTooLong: a sample is longer and the policy is `refuse`.
    """
    out = Samples()
    row_id = None
    for sample in samples:
        out.counts["samples"] += 1
        out.counts["rows"] += sample.row_id != row_id
        row_id = sample.row_id
        if sample.is_truncated:
            out.counts["truncated"] += 1
        if len(sample) <= context_tokens:
            out.kept.append(sample)
        elif overlong == "refuse":
            raise SampleTooLong(
                f"row {sample.row_id} has {len(sample)} tokens, the context holds {context_tokens}; "
                "set too_long to truncate, truncate_left or drop, or enlarge max_length",
                row_id=sample.row_id,
                tokens=len(sample),
                context_tokens=context_tokens,
            )
        elif overlong == "truncate_left":
            out.counts["dropped_nothing_left"] += 1
        elif overlong == "drop":
            out.counts["dropped_too_long"] += 1
        else:
            _keep_truncated(out, sample, context_tokens)
    return out


def _keep_truncated(out: Samples, sample: Sample, context_tokens: int) -> None:
    cut = replace(
        sample,
        token_ids=sample.token_ids[:context_tokens],
        is_target=sample.is_target[:context_tokens],
        weights=None if sample.weights is None else sample.weights[:context_tokens],
        spans=tuple(replace(s, end=min(s.end, context_tokens)) for s in sample.spans if s.start < context_tokens),
        is_truncated=True,
    )
    if cut.num_targets:
        out.kept.append(cut)
        out.counts["truncated"] += 1
    else:
        out.counts["dropped_nothing_left"] += 1
