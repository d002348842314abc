"""The rows of a Hub dataset, split by split or by a slice such as `train[:1000]+test[10%:20%]`.

Files are fetched when their rows are wanted, so that a slice from the beginning fetches no more than it needs. Slices
mean what they mean to the `datasets` library; one in percent, or from the end, counts the rows of its split first.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path

from anneal.ingestion.adapters.archives import expand, is_compressed
from anneal.ingestion.adapters.hub import HubDataset
from anneal.ingestion.adapters.rows import Broken, Found
from anneal.ingestion.domain.errors import HubSplitUnknown
from anneal.ingestion.domain.limits import ArchiveLimits
from anneal.kit.errors import Invalid

Located = tuple[str, Found | Broken]
ReadFile = Callable[[Path, str], Iterator[Located]]

_SLICE = r"[\w.-]+(?:\[-?\d*%?:-?\d*%?\](?:\((?:closest|pct1_dropremainder)\))?)?"
_SLICES = re.compile(rf"{_SLICE}(?:\s*\+\s*{_SLICE})*")
_OURS = (("train", "train"), ("valid", "validation"), ("dev", "validation"), ("test", "test"))


def check_split(text: str, field: str = "hub_split") -> None:
    """Check how splits and slices are written.

    Raises:
        Invalid: it is no split, and no slices of splits.
    """
    if not _SLICES.fullmatch(text):
        raise Invalid.field(field, f"{text[:200]!r} is not like `train`, `train[:1000]` or `train[:10%]+test`")


@dataclass(frozen=True, slots=True)
class Slice:
    """Rows `start` to `end` of a split, and the split they are in with us."""

    split: str
    start: int
    end: int
    ours: str


class HubRows:
    """Reads a dataset of the Hub."""

    def __init__(self, dataset: HubDataset, folder: Path, read: ReadFile, limits: ArchiveLimits) -> None:
        """Prepare it; nothing is fetched yet.

        Args:
            dataset: what to read.
            folder: where its files go.
            read: gives the rows of one file.
            limits: how far compressed files may expand.
        """
        self._dataset, self._folder, self._read, self._limits = dataset, folder, read, limits

    def slices(self, wanted: str) -> list[Slice]:
        """The slices that a text names; every split, whole, where it names none.

        Raises:
            HubSplitUnknown: there is no such split, or what one is for cannot be told from its name.
            Invalid: the slice cannot be.
        """
        files = self._dataset.files
        if not wanted:
            return [Slice(split, 0, sys.maxsize, self._ours(split, len(files) == 1)) for split in files]
        from datasets import ReadInstruction

        try:
            instruction = ReadInstruction.from_spec(wanted)
            asked = {each.splitname for each in instruction.to_absolute(_Any())}
            if unknown := sorted(asked - files.keys()):
                raise self._unknown(f"no split {', '.join(unknown)}")
            counts = {split: sys.maxsize for split in files}
            if "%" in wanted or "-" in re.sub(r"[\w.-]+(?=\[|$|\s*\+)", "", wanted):
                counts |= {split: self._count(split) for split in asked}
            made = instruction.to_absolute(counts)
        except ValueError as error:
            raise Invalid.field("hub_split", f"{wanted!r}: {error}") from error
        return [Slice(each.splitname, each.from_, each.to, self._ours(each.splitname, True)) for each in made]

    def rows(self, slices: Sequence[Slice]) -> Iterator[Located]:
        """The rows of the slices, each with the path of its file in the repository."""
        for each in slices:
            yield from islice(self._rows_of(each.split), each.start, each.end)

    def splits(self, slices: Sequence[Slice]) -> dict[str, str]:
        """`path of a file -> the split that its rows are in with us`."""
        return {path: each.ours for each in slices for path in self._dataset.files[each.split]}

    def _ours(self, split: str, is_named: bool) -> str:
        """Our name of a split. What is neither for validation nor for testing is trained on, if it is asked for."""
        known = next((ours for begin, ours in _OURS if split.lower().startswith(begin)), None)
        if known is None and not is_named:
            raise self._unknown(f"a split {split!r}, whose name does not say what it is for; name those that you want")
        return known or "train"

    def _unknown(self, cause: str) -> HubSplitUnknown:
        text = f"{self._dataset.name} has {cause}; it has {', '.join(self._dataset.files)}"
        return HubSplitUnknown(text, violations=[("hub_split", text)])

    def _rows_of(self, split: str) -> Iterator[Located]:
        return chain.from_iterable(self._file(path) for path in self._dataset.files[split])

    def _file(self, path: str) -> Iterator[Located]:
        local = self._dataset.fetch(path, self._folder)
        if not is_compressed(local):
            return self._read(local, path)
        expanded = self._folder / "expanded" / path
        expanded.parent.mkdir(parents=True, exist_ok=True)
        expand(local, expanded, self._limits)
        return ((path, row) for _, row in self._read(expanded, path.rpartition(".")[0] or path))

    def _count(self, split: str) -> int:
        return sum(1 for _ in self._rows_of(split))


class _Any(Mapping[str, int]):
    """Has every split, to learn which ones a text names."""

    def __getitem__(self, key: str) -> int:
        return sys.maxsize

    def __contains__(self, key: object) -> bool:
        return True

    def __iter__(self) -> Iterator[str]:
        return iter(())

    def __len__(self) -> int:
        return 0
