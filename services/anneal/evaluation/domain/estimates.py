"""Numbers with error bars: a mean over rows, and a mean of paired differences.

Both are one weighted mean with clustered errors:

- The mean of `value` weighted by `weight` is a ratio of two sums; its variance is taken by linearization
  (Cochran 1977, Sampling Techniques, 3rd ed., section 6.4). With equal weights this is the usual s²/n.
- Rows that come from one source are not independent. Their residuals are summed within the source before
  they are squared (Miller 2024, "Adding Error Bars to Evals", arXiv:2411.00640, section 2.2), with the
  factor G/(G-1) for G groups. With every row a group of its own this is again s²/n.
- The 95 % interval uses Student's t with G-1 degrees of freedom.

Two models are compared on the rows that both answered, by the mean of the per-row differences
(the same paper, section 4.2): what is hard for both cancels out.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import Enum
from math import exp, fsum, isfinite, sqrt

from scipy.special import stdtrit

CONFIDENCE = 0.95

MIN_GROUPS = 10
"""Fewer groups than this cannot carry an error bar between groups (Cameron and Miller 2015, Journal of Human
Resources 50(2), section VI, put "few" at 5 to 30): below it every row counts as a group of its own."""


class Link(Enum):
    """How the mean of the rows becomes the number shown."""

    IDENTITY = "mean"
    EXP = "exponential of the mean"


@dataclass(frozen=True, slots=True, kw_only=True)
class Score:
    """What one row got.

    Attributes:
        value: the row's number; finite.
        weight: how much the row counts, above zero: 1 for a plain mean, its tokens for a mean per token.
        group: rows with the same group are not independent of each other; empty means on its own.
    """

    value: float
    weight: float = 1.0
    group: str = ""

    def __post_init__(self) -> None:
        """Refuse what no mean can hold."""
        if not isfinite(self.value):
            raise ValueError(f"a score is finite, not {self.value}; a row that cannot be scored has none")
        if not (isfinite(self.weight) and self.weight > 0):
            raise ValueError(f"a weight is above zero, not {self.weight}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    """A number, how sure it is, and how many rows are behind it.

    Attributes:
        value: the number; None when no row could be scored.
        stderr: its standard error; None with fewer than two groups.
        low: lower end of the 95 % confidence interval; None where `stderr` is.
        high: upper end, likewise.
        scored: rows that have a score.
        unscored: rows that have none: no answer came, or the reference cannot be compared with.
        groups: independent groups behind the error bar.
    """

    value: float | None
    stderr: float | None
    low: float | None
    high: float | None
    scored: int
    unscored: int
    groups: int


def estimate(scores: Iterable[Score | None], *, link: Link = Link.IDENTITY) -> Estimate:
    """The weighted mean of the rows that have a score, with its clustered error bar.

    Under `Link.EXP` the value is the exponential of the mean, its standard error follows by the delta method
    (exp(m) * stderr(m)), and the interval is the exponential of the mean's own interval, so it is never negative.
    """
    rows = list(scores)
    scored = [row for row in rows if row is not None]
    mean, stderr, groups = _mean(scored)
    low, high = _interval(mean, stderr, groups)
    if link is Link.EXP:
        stderr = None if mean is None or stderr is None else _exp(mean) * stderr
        mean, low, high = (None if number is None else _exp(number) for number in (mean, low, high))
    return Estimate(
        value=mean,
        stderr=stderr,
        low=low,
        high=high,
        scored=len(scored),
        unscored=len(rows) - len(scored),
        groups=groups,
    )


def difference(ours: Mapping[str, Score | None], theirs: Mapping[str, Score | None], *, sign: int = 1) -> Estimate:
    """The mean of ours minus theirs, times `sign`, over the rows (keyed by row id) that both scored.

    Rows whose weights differ are unscored: a mean per token compares only where both counted the same tokens.
    A row that only one side has, or scored, counts as unscored. No link is applied: the difference of two
    perplexities is taken between their logarithms, in nats per token.
    """
    ids = ours.keys() | theirs.keys()
    pairs = [_pair(ours.get(row_id), theirs.get(row_id), sign) for row_id in sorted(ids)]
    return estimate(pairs)


def _pair(ours: Score | None, theirs: Score | None, sign: int) -> Score | None:
    if ours is None or theirs is None or ours.weight != theirs.weight:
        return None
    return Score(value=sign * (ours.value - theirs.value), weight=ours.weight, group=ours.group)


def _mean(scored: list[Score]) -> tuple[float | None, float | None, int]:
    """Mean, its standard error, and the number of groups the error comes from."""
    if not scored:
        return None, None, 0
    total = fsum(score.weight for score in scored)
    mean = fsum(score.weight * score.value for score in scored) / total
    residuals: dict[str, list[float]] = {}
    named = {score.group for score in scored if score.group}
    use_groups = len(named) >= MIN_GROUPS
    for index, score in enumerate(scored):
        key = f"g{score.group}" if use_groups and score.group else f"r{index}"
        residuals.setdefault(key, []).append(score.weight * (score.value - mean))
    groups = len(residuals)
    if groups < 2:
        return mean, None, groups
    squares = fsum(fsum(group) ** 2 for group in residuals.values())
    return mean, sqrt(groups / (groups - 1) * squares) / total, groups


def _interval(mean: float | None, stderr: float | None, groups: int) -> tuple[float | None, float | None]:
    if mean is None or stderr is None:
        return None, None
    reach = float(stdtrit(groups - 1, 0.5 + CONFIDENCE / 2)) * stderr
    return mean - reach, mean + reach


def _exp(number: float) -> float:
    """The exponential, held below overflow: a bound of 1e304 says "no bound" as well as infinity would."""
    return exp(min(number, 700.0))
