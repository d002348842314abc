"""Quantities as Kubernetes writes them: `500m` of a processor, `8Gi` of memory.

Forms: Kubernetes API reference, "Quantity" (decimal and binary suffixes; exponents are left out on purpose).
"""

from __future__ import annotations

import re
from decimal import Decimal

_FORM = re.compile(r"(\d+(?:\.\d+)?)(m|k|M|G|T|P|Ki|Mi|Gi|Ti|Pi)?")
_FACTORS = {
    "m": Decimal("0.001"),
    "": Decimal(1),
    **{suffix: Decimal(1000) ** power for power, suffix in enumerate("kMGTP", start=1)},
    **{f"{suffix}i": Decimal(1024) ** power for power, suffix in enumerate("KMGTP", start=1)},
}


def parse_quantity(text: str) -> Decimal:
    """The amount that a text means: processors or bytes.

    Raises:
        ValueError: it is no quantity, or nothing.
    """
    found = _FORM.fullmatch(text)
    amount = Decimal(found[1]) * _FACTORS[found[2] or ""] if found else Decimal(0)
    if not amount:
        raise ValueError(f"{text!r} is no amount such as 2, 500m or 8Gi")
    return amount
