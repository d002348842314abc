"""The manifest of a dataset version: what it consists of, whose counts must add up.

It holds nothing that depends on when or by whom it was written: the same rows, made the same way, have the same digest
everywhere.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from anneal.kit.errors import Invalid, NotYet
from anneal.kit.records import SCHEMAS, RecordKind

Part = Literal["rows", "removed", "quarantined"]
PARTS: tuple[Part, ...] = ("rows", "removed", "quarantined")
FORMAT = "anneal-dataset/1"


class ManifestUnbalanced(NotYet):
    """Rows in are not rows out + removed + quarantined."""

    reason = "MANIFEST_UNBALANCED"


class NotAManifest(Invalid):
    """The blob is not a dataset manifest."""

    reason = "NOT_A_MANIFEST"


@dataclass(frozen=True, slots=True, kw_only=True)
class Shard:
    """One Parquet file of a dataset version."""

    part: Part
    split: str
    digest: str
    rows: int
    size_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """What a dataset version consists of.

    Attributes:
        digest: `sha256:<hex>` of the manifest's own canonical JSON.
        kind: `document`, `conversation` or `preference`.
        shards: every file, in reading order.
        splits: rows kept, by split.
        rows_in: rows that came in; equals rows out + removed + quarantined.
        rows_out: rows kept.
        removed: `(step, reason)` -> rows.
        quarantined: rows that could not be read.
        parents: digests of the manifests it was made from.
        steps: how it was made, as JSON values.
        decontaminated_against: manifest digests of the benchmarks the training rows were compared with.
        statistics: anything a service wants to keep with it, as JSON values.
    """

    digest: str = ""
    kind: RecordKind
    shards: tuple[Shard, ...] = ()
    splits: Mapping[str, int] = field(default_factory=dict)
    rows_in: int
    rows_out: int
    removed: Mapping[tuple[str, str], int] = field(default_factory=dict)
    quarantined: int = 0
    parents: tuple[str, ...] = ()
    steps: tuple[Mapping[str, Any], ...] = ()
    decontaminated_against: tuple[str, ...] = ()
    statistics: Mapping[str, Any] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """The manifest as JSON values, without its digest."""
        removed = [{"step": step, "reason": reason, "rows": n} for (step, reason), n in sorted(self.removed.items())]
        return {
            "format": FORMAT,
            "kind": self.kind,
            "schema": [f"{column.name}: {column.type}" for column in SCHEMAS[self.kind]],
            "shards": [
                {"part": s.part, "split": s.split, "digest": s.digest, "rows": s.rows, "size_bytes": s.size_bytes}
                for s in self.shards
            ],
            "splits": dict(self.splits),
            "rows_in": self.rows_in,
            "rows_out": self.rows_out,
            "removed": removed,
            "quarantined": self.quarantined,
            "parents": list(self.parents),
            "steps": [dict(step) for step in self.steps],
            "decontaminated_against": list(self.decontaminated_against),
            "statistics": dict(self.statistics),
        }

    @classmethod
    def from_json(cls, value: Mapping[str, Any], digest: str) -> Manifest:
        """Read a manifest.

        Raises:
            NotAManifest: the value has another shape.
            ManifestUnbalanced: its counts do not add up.
        """
        try:
            if value["format"] != FORMAT or value["kind"] not in SCHEMAS:
                raise KeyError("format")
            manifest = cls(
                digest=digest,
                kind=value["kind"],
                shards=tuple(Shard(**shard) for shard in value["shards"]),
                splits=dict(value["splits"]),
                rows_in=value["rows_in"],
                rows_out=value["rows_out"],
                removed={(entry["step"], entry["reason"]): entry["rows"] for entry in value["removed"]},
                quarantined=value["quarantined"],
                parents=tuple(value["parents"]),
                steps=tuple(value["steps"]),
                decontaminated_against=tuple(value["decontaminated_against"]),
                statistics=value["statistics"],
            )
        except (KeyError, TypeError):
            raise NotAManifest(f"{digest} is not a dataset manifest", digest=digest) from None
        manifest.check()
        return manifest

    def check(self) -> None:
        """Check that the rows add up.

        Raises:
            ManifestUnbalanced: they do not.
        """
        held = Counter[str]()
        for shard in self.shards:
            held[shard.part] += shard.rows
        counted = {"rows": self.rows_out, "removed": sum(self.removed.values()), "quarantined": self.quarantined}
        total = sum(counted.values())
        if total != self.rows_in or any(held[part] != n for part, n in counted.items()):
            raise ManifestUnbalanced(
                f"{self.rows_in} rows came in, but {counted['rows']} were kept, {counted['removed']} removed and "
                f"{counted['quarantined']} quarantined (in files: {dict(held)})",
                rows_in=str(self.rows_in),
                rows_accounted=str(total),
            )
