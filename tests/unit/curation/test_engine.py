from __future__ import annotations

import random
from pathlib import Path

import pytest

from anneal.curation.adapters.executors.threads import Threads
from anneal.curation.adapters.stored_rows import DatasetSink, StoredRows
from anneal.curation.domain.engine import NamedStep, curate
from anneal.curation.domain.overview import look_over
from anneal.curation.domain.steps.exact_duplicates import ExactDuplicates
from anneal.curation.domain.steps.fuzzy_duplicates import FuzzyDuplicates
from anneal.curation.domain.steps.length import Length
from anneal.curation.domain.steps.split import Split
from anneal.kit.datasets import DatasetReader, DatasetWriter
from anneal.kit.records import to_table
from anneal.kit.store import Store
from tests.unit.curation.rows import PartsInMemory, asked, batch_of, run

STEPS = [
    NamedStep("length", Length(min_answer_words=2)),
    NamedStep("exact_duplicates", ExactDuplicates()),
    NamedStep("fuzzy_duplicates", FuzzyDuplicates()),
    NamedStep("split", Split()),
    NamedStep("length", Length(max_answer_words=55)),
]


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(str(tmp_path / "store"), tmp_path / "cache")


def test_the_same_bytes_however_rows_are_cut(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    chance = random.Random(3)
    words = [f"w{n}" for n in range(100)]
    texts = [" ".join(chance.choices(words, k=chance.randrange(60))) for _ in range(300)]
    texts += [text + " and more" for text in texts[:100]] + texts[:50]
    writer = DatasetWriter(store, "conversation", shard_rows=170)
    writer.add(to_table("conversation", [asked("q", text, f"page-{n % 40}") for n, text in enumerate(texts)]))
    source = writer.finish(rows_in=len(texts))
    digests, told = set(), []
    # Why rows left is looked up for one file at a time, for two, and for all.
    for piece_rows, why_rows in ((1, 1), (37, 250), (4096, 1000)):
        monkeypatch.setattr("anneal.curation.domain.writing._WHY_ROWS", why_rows)
        writer = DatasetWriter(store, "conversation", shard_rows=100)
        rows = StoredRows([DatasetReader(store, source.digest)], piece_rows)
        outcome = curate(STEPS, rows, PartsInMemory(), Threads(2), DatasetSink(writer), lambda *seen: told.append(seen))
        manifest = writer.finish(rows_in=outcome.rows_in)
        assert dict(manifest.removed) == dict(outcome.removed)
        assert manifest.splits == dict(outcome.kept)
        digests.add(manifest.digest)
    assert len(digests) == 1
    assert {step for step, _ in outcome.removed} == {"length", "exact_duplicates", "fuzzy_duplicates"}
    assert ("write", len(texts), len(texts)) in told


def test_a_job_can_be_stopped_after_every_batch() -> None:
    class Stopped(Exception):
        pass

    def stop(_doing: str, _done: int, _total: int) -> None:
        raise Stopped

    memory, _ = run([asked("q", "a")])
    with pytest.raises(Stopped):
        curate(STEPS, memory, PartsInMemory(), Threads(2), memory, stop)


def test_a_pipeline_without_steps_keeps_everything() -> None:
    memory, outcome = run([("train", asked("q", "a")), ("dev", asked("q", "b"))])
    assert dict(outcome.kept) == {"train": 1, "dev": 1}
    assert [split for split, _ in memory.kept] == ["dev", "train"]


def test_an_overview_by_hand() -> None:
    rows = [asked("a b c", "x" * 7, "p"), asked("", "x" * 8, "p"), asked("d", "", "q")]
    overview = look_over([batch_of(rows[:2]), batch_of(rows[2:])])
    assert (overview.rows, overview.top_sources) == (3, {"p": 2, "q": 1})
    bars = {one.name: one for one in overview.histograms}
    assert (bars["answer_characters"].edges, bars["answer_characters"].counts) == ((0, 1, 2, 4, 8, 16), (1, 0, 0, 1, 1))
    assert (bars["prompt_words"].edges, bars["prompt_words"].counts) == ((0, 1, 2, 4), (1, 1, 1))
    assert look_over([]).histograms == ()
