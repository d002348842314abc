"""A curation that was killed, one whose dataset grew, and one on a cluster end with the same bytes as any other."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, cast

import pyarrow as pa
import pytest

from anneal.curation.adapters.executors.ray_data import RayData
from anneal.curation.adapters.executors.threads import Threads
from anneal.curation.adapters.packs import Index
from anneal.curation.adapters.stored_rows import DatasetSink, StoredRows
from anneal.curation.adapters.vault import ScratchVault
from anneal.curation.domain.engine import NamedStep, Outcome, curate
from anneal.curation.domain.pieces import Executor
from anneal.curation.domain.steps.base import Runnable
from anneal.curation.domain.steps.exact_duplicates import ExactDuplicates
from anneal.curation.domain.steps.format import Format
from anneal.curation.domain.steps.fuzzy_duplicates import FuzzyDuplicates
from anneal.curation.domain.steps.length import Length
from anneal.curation.domain.steps.split import Split
from anneal.kit.datasets import DatasetReader, DatasetWriter
from anneal.kit.manifests import Manifest
from anneal.kit.records import to_table
from anneal.kit.sides import WAITING
from anneal.kit.store import Store
from tests.unit.curation.rows import Row, asked

PIECE_ROWS = 50
STEPS: list[NamedStep] = [
    NamedStep(name, step, repr(step))
    for name, step in cast(
        "dict[str, Runnable]",
        {
            "format": Format(),
            "exact_duplicates": ExactDuplicates(),
            "fuzzy_duplicates": FuzzyDuplicates(part="answer"),
            "split": Split(),
            "length": Length(max_answer_words=58),
        },
    ).items()
]


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(str(tmp_path / "store"), tmp_path / "cache")


def some_rows(count: int, seed: int = 1) -> list[Row]:
    """Rows of which a third repeat another one, exactly or nearly, and some are broken."""
    chance = random.Random(seed)
    words = [f"w{n}" for n in range(300)]
    texts = [" ".join(chance.choices(words, k=chance.randrange(5, 62))) for _ in range(2 * count // 3)]
    texts += [text + chance.choice(["", " and more", " {{ name }}"]) for text in texts[: count - len(texts)]]
    return [asked("q", text, f"page-{n % 17}") for n, text in enumerate(texts)]


def publish(store: Store, rows: Sequence[Row]) -> DatasetReader:
    writer = DatasetWriter(store, "conversation", shard_rows=120)
    writer.add(to_table("conversation", rows))
    return DatasetReader(store, writer.finish(rows_in=len(rows)).digest)


class Counting:
    """Threads that count the rows looked at, and may be killed."""

    def __init__(self, kill_after: int | None = None) -> None:
        self.calls: list[tuple[str, int]] = []
        self._left = kill_after

    def map(self, function: Callable[[Any, Any], Any], shared: Any, items: Any, then: Any) -> Iterator[Any]:
        for result in Threads(1).map(function, shared, items, then):
            if self._left == 0:
                raise KeyboardInterrupt
            self._left = None if self._left is None else self._left - 1
            self.calls.append((function.__name__, result))
            yield result

    def rows(self, function: str) -> int:
        return sum(rows for name, rows in self.calls if name == function)


def finish(
    store: Store, readers: Sequence[DatasetReader], vault: ScratchVault, executor: Executor | None = None
) -> tuple[Manifest, Outcome]:
    writer = DatasetWriter(store, "conversation", shard_rows=100)
    rows = StoredRows(readers, PIECE_ROWS)
    outcome = curate(STEPS, rows, vault, executor or Threads(2), DatasetSink(writer), lambda *_: None)
    index = vault.publish(outcome.parts, outcome.notes, store)
    return writer.finish(rows_in=outcome.rows_in, statistics={"index": index}), outcome


@pytest.mark.parametrize("kill_after", [0, 3, 9, 11, 13])
def test_what_was_done_is_not_done_again(store: Store, tmp_path: Path, kill_after: int) -> None:
    reader = publish(store, some_rows(400))
    whole = Counting()
    undisturbed, outcome = finish(store, [reader], ScratchVault(tmp_path / "one"), whole)
    assert {step for step, _ in outcome.removed} == {"format", "exact_duplicates", "fuzzy_duplicates", "length"}
    with pytest.raises(KeyboardInterrupt):
        finish(store, [reader], ScratchVault(tmp_path / "two"), Counting(kill_after))
    again = Counting()
    assert finish(store, [reader], ScratchVault(tmp_path / "two"), again)[0].digest == undisturbed.digest
    # What had been done is not done again, nor what was under way beside it and finished.
    assert 0 <= len(whole.calls) - kill_after - 1 - len(again.calls) < WAITING


def test_a_part_that_is_half_written_is_none(store: Store, tmp_path: Path) -> None:
    vault = ScratchVault(tmp_path / "parts")

    class Torn:
        schema = pa.schema([("n", pa.int64())])

    with pytest.raises((TypeError, AttributeError)):
        vault.put({"torn": Torn()})
    assert not vault.has("torn")


def test_a_dataset_that_grew_is_as_if_curated_from_scratch(store: Store, tmp_path: Path) -> None:
    rows = some_rows(500)
    repeated = {**rows[450], "source": "elsewhere"}
    old, new = publish(store, rows), publish(store, [*some_rows(99, seed=2), repeated])
    before, _ = finish(store, [old], ScratchVault(tmp_path / "before"))
    index = Index.read(store, before.statistics["index"])
    counting = Counting()
    grown, outcome = finish(store, [old, new], ScratchVault(tmp_path / "grown", store, index), counting)
    scratch, _ = finish(store, [old, new], ScratchVault(tmp_path / "scratch"))
    assert grown.digest == scratch.digest
    assert outcome.rows_in == 600
    # The new rows, and once more their pieces, in which there are pairs that nobody knows.
    assert counting.rows("examine") == 200
    assert counting.rows("assemble") <= 300


@pytest.mark.parametrize("seed", [3, 4, 5])
def test_a_dataset_that_grows_again_and_again_is_as_if_curated_from_scratch(
    store: Store, tmp_path: Path, seed: int
) -> None:
    """New rows take the place of old ones, exactly and nearly, join their components, and are taken away by others."""
    chance = random.Random(seed)
    rows, readers, index = some_rows(200, seed), [], None
    for version in range(4):
        readers.append(publish(store, rows))
        vault = ScratchVault(tmp_path / f"grown-{version}", store, index)
        grown, _ = finish(store, readers, vault)
        scratch, _ = finish(store, readers, ScratchVault(tmp_path / f"scratch-{version}"))
        assert grown.digest == scratch.digest
        index = Index.read(store, grown.statistics["index"])
        old = chance.sample(rows, 30)
        texts = [row["messages"][1]["content"] for row in old]
        rows = [
            asked("q", text + chance.choice([" indeed", "!", "  ", " again and again"]), f"new-{version}")
            for text in texts
        ]
        rows += [asked("q", texts[0], "elsewhere"), *some_rows(20, 100 * seed + version)]


def test_an_index_of_another_version_of_the_code_is_left_alone(store: Store) -> None:
    digest = store.put_bytes(b'{"format": "something/9", "parts": {"a": "b"}}')
    assert Index.read(store, digest) == Index()


@pytest.mark.filterwarnings("ignore:.*deprecated:DeprecationWarning")
@pytest.mark.timeout(180)
def test_ray_data_gives_the_same_bytes(store: Store, tmp_path: Path) -> None:
    ray = pytest.importorskip("ray")
    reader = publish(store, some_rows(300))
    here, _ = finish(store, [reader], ScratchVault(tmp_path / "here"))
    ray.init(num_cpus=2, log_to_driver=False, include_dashboard=False)
    try:
        there, _ = finish(store, [reader], ScratchVault(tmp_path / "there"), RayData())
    finally:
        ray.shutdown()
    assert there.digest == here.digest
