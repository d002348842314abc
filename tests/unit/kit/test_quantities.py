from __future__ import annotations

from decimal import Decimal

import pytest

from anneal.kit.quantities import parse_quantity


@pytest.mark.parametrize(
    ("text", "amount"),
    [("2", 2), ("500m", Decimal("0.5")), ("1.5", Decimal("1.5")), ("1k", 1000), ("1Ki", 1024), ("8Gi", 8 << 30)],
)
def test_amounts(text: str, amount: Decimal) -> None:
    assert parse_quantity(text) == amount


@pytest.mark.parametrize("text", ["", "0", "0Gi", "-1", "8 Gi", "8GB", "1e3", "Gi", "1.", "nan"])
def test_what_is_no_amount_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is no amount"):
        parse_quantity(text)
