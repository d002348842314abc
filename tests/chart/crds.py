"""The published schemas of custom objects, where the folder of CRDs is beside the repository."""

from __future__ import annotations

from functools import cache
from typing import Any

import yaml

from tests.fixtures import kubernetes_rules as rules


@cache
def crd_schema(file_name: str, version: str) -> dict[str, Any] | None:
    """The schema of a kind, unknown fields refused; None where no CRDs are at hand."""
    path = rules.CRDS / file_name
    if not path.exists():
        return None
    with path.open(encoding="utf-8") as file:
        crd = yaml.load(file, getattr(yaml, "CSafeLoader", yaml.SafeLoader))
    served = next(one for one in crd["spec"]["versions"] if one["name"] == version)
    schema: dict[str, Any] = served["schema"]["openAPIV3Schema"]
    schema["properties"]["metadata"] = {"type": "object"}
    made: dict[str, Any] = rules._strict(schema)
    return made
