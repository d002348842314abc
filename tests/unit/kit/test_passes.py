"""Rows of every kind, with all that messages may have, come through every pass of the system as they were."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from anneal.curation.adapters.encoders import encoder_of
from anneal.curation.adapters.executors.threads import Threads
from anneal.curation.adapters.stored_rows import DatasetSink, StoredRows
from anneal.curation.domain.engine import NamedStep, curate
from anneal.curation.domain.overview import look_over
from anneal.curation.domain.steps.base import Runnable
from anneal.curation.domain.steps.exact_duplicates import ExactDuplicates
from anneal.curation.domain.steps.format import Format
from anneal.curation.domain.steps.fuzzy_duplicates import FuzzyDuplicates
from anneal.curation.domain.steps.grouped_split import GroupedSplit
from anneal.curation.domain.steps.keywords import Keywords
from anneal.curation.domain.steps.language import Language
from anneal.curation.domain.steps.length import Length
from anneal.curation.domain.steps.mix import Mix
from anneal.curation.domain.steps.pii_filter import PiiFilter
from anneal.curation.domain.steps.pii_mask import PiiMask
from anneal.curation.domain.steps.refusals import Refusals
from anneal.curation.domain.steps.repetition import Repetition
from anneal.curation.domain.steps.sample import Sample
from anneal.curation.domain.steps.semantic_duplicates import SemanticComparison, SemanticDuplicates
from anneal.curation.domain.steps.split import Split
from anneal.curation.domain.steps.symbols import Symbols
from anneal.curation.settings import EncoderOptions
from anneal.kit.datasets import DatasetReader, DatasetWriter
from anneal.kit.digests import hex_of
from anneal.kit.manifests import Manifest
from anneal.kit.messages import plain_row
from anneal.kit.records import RecordKind, conversation, preference, row_id, to_table
from anneal.kit.store import Store
from anneal.registry.adapters.shelf import Shelf
from anneal.synthesis.adapters.dataset_source import read_rows as rows_for_synthesis
from anneal.training.run import read_rows as rows_for_training
from tests.fixtures.old_rows import old_rows, old_version
from tests.fixtures.random_rows import ROWS
from tests.unit.curation.rows import PartsInMemory

SEVERAL = settings(
    max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
KINDS: list[RecordKind] = ["document", "conversation", "preference"]
FILTERS: list[Runnable] = [
    Format(),
    Keywords(exclude=("zebra crossing",)),
    Language(allowed=("en",)),
    Length(max_conversation_characters=10_000, min_answer_characters=1),
    PiiFilter(),
    Refusals(),
    Repetition(),
    Symbols(),
]


def comparisons() -> list[Runnable]:
    step = SemanticDuplicates()
    semantic = SemanticComparison(step=step, encoder=encoder_of(step.encoder, EncoderOptions()))
    return [ExactDuplicates(), FuzzyDuplicates(), semantic]


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(str(tmp_path / "store"), tmp_path / "cache")


def written(store: Store, kind: RecordKind, rows: Sequence[dict[str, Any]]) -> DatasetReader:
    writer = DatasetWriter(store, kind, shard_rows=3)
    writer.add(to_table(kind, rows))
    return DatasetReader(store, writer.finish(rows_in=len(rows)).digest)


def curated(store: Store, steps: Sequence[Runnable], *readers: DatasetReader) -> Manifest:
    named = [NamedStep(f"step_{number}", step) for number, step in enumerate(steps)]
    writer = DatasetWriter(store, readers[0].manifest.kind)
    source = StoredRows(list(readers), piece_rows=2)
    outcome = curate(named, source, PartsInMemory(), Threads(1), DatasetSink(writer), lambda *_: None)
    return writer.finish(rows_in=outcome.rows_in)


def read(store: Store, manifest: Manifest) -> Iterator[dict[str, Any]]:
    reader = DatasetReader(store, manifest.digest)
    names = [field.name for field in reader.table().schema]
    for row in itertools.chain(reader.table().to_pylist(), reader.table(part="removed").to_pylist()):
        yield plain_row({name: row[name] for name in names})


def in_order(rows: Sequence[dict[str, Any]]) -> list[str]:
    return sorted(json.dumps(row, sort_keys=True) for row in rows)


@SEVERAL
@given(data=st.data())
@pytest.mark.parametrize("kind", KINDS)
def test_curation_keeps_or_removes_whole_rows(store: Store, kind: RecordKind, data: st.DataObject) -> None:
    rows = data.draw(ROWS[kind])
    splitters: list[Runnable] = [Split(), GroupedSplit()]
    splitter = data.draw(st.sampled_from(splitters))
    steps = [*FILTERS, *comparisons(), PiiMask(), splitter]
    found = list(read(store, curated(store, steps, written(store, kind, rows))))
    assert in_order(found) == in_order(rows)
    assert all(row_id(kind, row) == row["id"] for row in found)


@SEVERAL
@given(data=st.data())
@pytest.mark.parametrize("kind", KINDS)
def test_mixing_and_sampling_copies_whole_rows(store: Store, kind: RecordKind, data: st.DataObject) -> None:
    one, two = data.draw(ROWS[kind]), data.draw(ROWS[kind])
    sources = written(store, kind, one), written(store, kind, two)
    known = in_order([*one, *two])
    for step in (Mix(weights=(1.0, 2.0)), Sample(rows=2)):
        assert set(in_order(list(read(store, curated(store, [step], *sources))))) <= set(known)


@SEVERAL
@given(data=st.data())
@pytest.mark.parametrize("kind", KINDS)
async def test_readers_give_whole_rows(store: Store, kind: RecordKind, data: st.DataObject, tmp_path: Path) -> None:
    rows = data.draw(ROWS[kind])
    reader = written(store, kind, rows)
    assert [plain_row(row) for row in reader.table().to_pylist()] == rows
    assert look_over(reader.batches()).rows == len(rows)
    if kind != "preference":
        assert list(rows_for_synthesis(reader)) == rows
    shown, _ = await Shelf(store).page(reader.manifest.digest, "rows", None, 100, (0, 0))
    plain = [{**row, "scores": dict(row["scores"])} if "scores" in row else row for row in rows]
    assert [json.loads(row.json) for row in shown] == json.loads(json.dumps(plain))
    if kind == "conversation":
        files = []
        for shard in reader.shards():
            files.append(str(tmp_path / hex_of(shard.digest)))
            Path(files[-1]).write_bytes(reader.shard_bytes(shard))
        assert rows_for_training(files, kind) == [
            {name: row[name] for name in ("id", "messages", "tools")} for row in rows
        ]


async def test_versions_of_before_go_through_every_pass(store: Store) -> None:
    reader = DatasetReader(store, old_version(store, 12))
    kept = old_rows(12)[:-1]
    steps = [*FILTERS, *comparisons(), PiiMask(), Split()]
    assert in_order(list(read(store, curated(store, steps, reader)))) == in_order(kept)
    assert list(rows_for_synthesis(reader)) == kept
    shown, _ = await Shelf(store).page(reader.manifest.digest, "rows", None, 100, (0, 0))
    assert [json.loads(row.json)["messages"] for row in shown] == [row["messages"] for row in kept]
    assert look_over(reader.batches()).rows == 11
    fresh = written(store, "conversation", kept[:5])
    mixed = curated(store, [Mix(weights=(1.0, 1.0))], reader, fresh)
    assert set(in_order(list(read(store, mixed)))) <= set(in_order(kept))


def test_what_only_a_new_field_tells_apart_is_no_duplicate(store: Store) -> None:
    user = {"role": "user", "content": "Where is it?"}
    call = {"id": "c", "name": "find", "arguments": '{"n": 1}'}
    answers: list[dict[str, Any]] = [
        {"role": "assistant", "content": "There."},
        {"role": "assistant", "content": "There.", "weight": 0.0},
        {"role": "assistant", "content": "There.", "reasoning": "It was there before."},
        {"role": "assistant", "content": "There.", "tool_calls": [call]},
        {"role": "assistant", "content": "There.", "tool_calls": [{**call, "arguments": '{"n": 2}'}]},
        {"role": "assistant", "content": "There.", "name": "kim"},
    ]
    rows = [conversation([user, answer], source="s") for answer in answers]
    manifest = curated(store, [ExactDuplicates()], written(store, "conversation", [*rows, rows[2]]))
    assert (manifest.rows_out, sum(manifest.removed.values())) == (6, 1)
    good, bad = answers[:1], answers[2:3]
    sides = [(good, bad), (bad, good), (good, None), (None, good)]
    pairs = [preference([user], chosen=wanted, rejected=not_wanted, source="s") for wanted, not_wanted in sides]
    manifest = curated(store, [ExactDuplicates()], written(store, "preference", [*pairs, pairs[1]]))
    assert (manifest.rows_out, sum(manifest.removed.values())) == (4, 1)
