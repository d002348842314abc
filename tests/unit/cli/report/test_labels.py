"""How numbers are written for people."""

from __future__ import annotations

import pytest

from anneal.cli.report import labels
from anneal.cli.report.model import Cell, Number


@pytest.mark.parametrize(
    ("value", "metric", "expected"),
    [
        (None, "token_f1", "\N{EN DASH}"),
        (0.0, "token_f1", "0.000"),
        (-0.25, "token_f1", "\N{MINUS SIGN}0.250"),
        (2.3456, "perplexity", "2.35"),
        (1234.5, "perplexity", "1,234"),
    ],
)
def test_number(value: float | None, metric: str, expected: str) -> None:
    assert labels.number(value, metric) == expected


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [
        (None, "\N{EN DASH}"),
        (0.0404, "40 ms"),
        (59.94, "59.9 s"),
        (60, "1 min 00 s"),
        (441.8, "7 min 22 s"),
        (3600, "1 h 00 min"),
    ],
)
def test_duration(seconds: float | None, expected: str) -> None:
    assert labels.duration(seconds) == expected


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [(0.01, 0.2, "better"), (0.0, 0.2, "open"), (-0.2, 0.1, "open"), (-0.2, -0.01, "worse"), (None, None, "")],
)
def test_direction_is_what_the_whole_interval_says(low: float | None, high: float | None, expected: str) -> None:
    cell = Cell(
        model="m", benchmark="b", metric="token_f1", number=Number(), gain=Number(value=0.1, low=low, high=high)
    )
    assert labels.direction(cell) == expected


def test_gain_of_perplexity_has_the_digits_of_nats() -> None:
    gain = Number(value=1.9, low=1.8, high=2.0)
    cell = Cell(model="m", benchmark="b", metric="perplexity", number=Number(), gain=gain)
    assert labels.gain(cell) == "+1.900 [+1.800, +2.000]"


def test_last_segment() -> None:
    assert labels.last("projects/p/adapters/a/versions/0123") == "a@0123"
    assert labels.last("projects/p/deployments/d") == "d"


@pytest.mark.parametrize(
    ("value", "expected"), [(182_344.0, "182,344 rows"), (1.2149, "1.21 rows"), (None, "\N{EN DASH}")]
)
def test_quantity(value: float | None, expected: str) -> None:
    assert labels.quantity(value, "rows") == expected
