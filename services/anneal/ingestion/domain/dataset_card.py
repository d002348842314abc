"""The card of a dataset on the Hub: what it holds, where it came from, and what was left out on the way.

What made the rows is named, not how: a recipe may hold addresses and prompts that are nobody else's business.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

MARK = "<!-- made by anneal; the next push replaces this file -->"
"""Tells a card that a push may replace."""

_SIZES = ((1_000, "n<1K"), (10_000, "1K<n<10K"), (100_000, "10K<n<100K"), (1_000_000, "100K<n<1M"))
_LARGE = "n>1M"
_KINDS = {
    "document": "Documents: one text a row, with its title, its place of origin and its licence.",
    "conversation": "Conversations: one a row, as a list of messages with role and content.",
    "preference": "Preferences: a prompt with a better and a worse answer a row.",
}
_LICENSE = re.compile(r"[a-z0-9][a-z0-9.+-]{0,63}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Card:
    """What a card says.

    Attributes:
        name: resource name of the dataset version.
        digest: of its manifest.
        kind: what its rows are.
        splits: `split -> rows`.
        files: `split -> paths in the repository`.
        license: in the Hub's words; empty where none is stated.
        row_licenses: what the rows say of themselves, `licence -> rows`.
        rows_in: rows that came in.
        removed: `(step, reason) -> rows`.
        quarantined: rows that could not be read.
        parents: digests of what it was made from.
        origins: datasets of the Hub that rows came from.
        decontaminated_against: digests of benchmarks whose items were taken out.
    """

    name: str
    digest: str
    kind: str
    splits: Mapping[str, int]
    files: Mapping[str, Sequence[str]]
    license: str
    row_licenses: Mapping[str, int]
    rows_in: int
    removed: Mapping[tuple[str, str], int]
    quarantined: int
    parents: Sequence[str]
    origins: Sequence[str]
    decontaminated_against: Sequence[str]

    def text(self) -> str:
        """Return the card."""
        return f"{self._front_matter()}\n{MARK}\n\n{self._body()}"

    def _front_matter(self) -> str:
        rows = sum(self.splits.values())
        size = next((name for limit, name in _SIZES if rows < limit), _LARGE)
        lines = ["---"]
        if self.license:
            lines.append(f"license: {json.dumps(self.license)}")
        lines += ["tags:", "- anneal", "size_categories:", f"- {size}", "configs:", "- config_name: default"]
        lines.append("  data_files:")
        for split, paths in self.files.items():
            lines.append(f"  - split: {json.dumps(split)}")
            lines += ["    path:", *(f"    - {json.dumps(path)}" for path in paths)]
        return "\n".join([*lines, "---"])

    def _body(self) -> str:
        title = self.name.split("/")[3]
        splits = _table(("Split", "Rows"), [(split, f"{count:,}") for split, count in self.splits.items()])
        removed = [(step, reason, f"{count:,}") for (step, reason), count in sorted(self.removed.items())]
        parts = [f"# {title}", _KINDS.get(self.kind, self.kind), "## Rows", splits]
        if removed:
            parts += ["Left out on the way to this version:", _table(("Step", "Reason", "Rows"), removed)]
        counts = f"{self.rows_in:,} rows came in, {sum(self.removed.values()):,} were removed"
        parts.append(f"{counts}, {self.quarantined:,} could not be read.")
        parts += ["## Where it came from", "\n".join(f"- {line}" for line in self._provenance())]
        return "\n\n".join([*parts, "## Licence", self._licenses()]) + "\n"

    def _provenance(self) -> list[str]:
        lines = [f"Version `{self.name}`, manifest `{self.digest}`."]
        lines += [f"Made from the manifest `{parent}`." for parent in self.parents]
        lines += [f"Rows from `{origin}` of the Hub." for origin in self.origins]
        against = self.decontaminated_against
        lines += [f"Decontaminated against {len(against)} benchmarks: {', '.join(against)}."] if against else []
        return lines

    def _licenses(self) -> str:
        stated = f"`{self.license}`." if self.license else "None is stated for the whole."
        if not self.row_licenses:
            return stated
        rows = [(name or "not stated", f"{count:,}") for name, count in sorted(self.row_licenses.items())]
        return f"{stated} The rows say:\n\n{_table(('Licence', 'Rows'), rows)}"


def is_license(text: str) -> bool:
    """Whether a text can be a licence in the Hub's words."""
    return bool(_LICENSE.fullmatch(text))


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)
