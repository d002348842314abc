"""What the registry keeps: named records, their facts, and the edges between them."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum


class Kind(StrEnum):
    """The kinds of resources; each value is the key of its name pattern in `anneal.kit.names`."""

    DATASET = "dataset"
    DATASET_VERSION = "dataset_version"
    MODEL = "model"
    ADAPTER = "adapter"
    ADAPTER_VERSION = "adapter_version"
    BENCHMARK = "benchmark"
    EVALUATION = "evaluation"
    DEPLOYMENT = "deployment"

    @property
    def words(self) -> str:
        """The kind as people say it."""
        return self.value.replace("_", " ")


FAMILY_OF = {Kind.DATASET_VERSION: Kind.DATASET, Kind.ADAPTER_VERSION: Kind.ADAPTER}
"""A version's family; creating the first version of a family creates the family."""

VERSION_OF = {family: version for version, family in FAMILY_OF.items()}


class Relation(StrEnum):
    """How one resource uses another."""

    DERIVED_FROM = "derived_from"
    TRAINED_ON = "trained_on"
    BASED_ON = "based_on"
    EVALUATED = "evaluated"
    MEASURED_ON = "measured_on"
    COMPARED_WITH = "compared_with"
    DEPLOYED = "deployed"
    ADMITTED_BY = "admitted_by"


@dataclass(frozen=True, slots=True, order=True)
class Edge:
    """One step of lineage: `made` uses `source`."""

    source: str
    made: str
    relation: Relation


Fact = str | int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """A named resource.

    Attributes:
        kind: what it is.
        name: its resource name; unique over all time for immutable kinds.
        create_time: when it became visible, with a time zone.
        revision: microseconds since 1970 of its last change; grows with every change.
        body: the whole resource, opaque to these rules.
        facts: the values that others ask for, by column; every kind has its own.
        edges: what it was made from.
        latest_version: of a family, the name of the version created last; empty without one.
    """

    kind: Kind
    name: str
    create_time: datetime
    revision: int
    body: bytes
    facts: Mapping[str, Fact] = field(default_factory=dict)
    edges: tuple[Edge, ...] = ()
    latest_version: str = ""

    @property
    def etag(self) -> str:
        """Changes whenever what a reader sees changes."""
        return hashlib.sha256(self.body + b"\0" + self.latest_version.encode()).hexdigest()[:16]


def microseconds(time: datetime) -> int:
    """Microseconds since 1970 of a time with a time zone."""
    return round(time.timestamp() * 1_000_000)
