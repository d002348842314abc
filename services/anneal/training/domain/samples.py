"""A sample: one independent sequence of tokens, and what happened to those that did not fit."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

from anneal.training.domain.errors import SampleTooLong


@dataclass(frozen=True, slots=True)
class Sample:
    """One sequence that must not see any other.

    Attributes:
        token_ids: the sequence.
        is_target: whether token i is to be predicted from the tokens before it; never true for the first.
        row_id: id of the row it was made from.
        is_truncated: its end was cut off.
    """

    token_ids: list[int]
    is_target: list[bool]
    row_id: str
    is_truncated: bool = False

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

    `counts` holds `rows`, `truncated`, `dropped_too_long` and `dropped_nothing_left`.
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
    for sample in samples:
        out.counts["rows"] += 1
        if len(sample) <= context_tokens:
            out.kept.append(sample)
        elif overlong == "refuse":
            raise SampleTooLong(
                f"row {sample.row_id} has {len(sample)} tokens, the context holds {context_tokens}; "
                "set overlong to truncate or drop, or enlarge context_tokens",
                row_id=sample.row_id,
                tokens=len(sample),
                context_tokens=context_tokens,
            )
        elif overlong == "drop":
            out.counts["dropped_too_long"] += 1
        else:
            _keep_truncated(out, sample, context_tokens)
    return out


def _keep_truncated(out: Samples, sample: Sample, context_tokens: int) -> None:
    cut = Sample(sample.token_ids[:context_tokens], sample.is_target[:context_tokens], sample.row_id, is_truncated=True)
    if cut.num_targets:
        out.kept.append(cut)
        out.counts["truncated"] += 1
    else:
        out.counts["dropped_nothing_left"] += 1
