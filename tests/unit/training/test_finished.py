"""Records of trainings that ended: found by what was asked, whole or not at all, in their project only."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from anneal.kit.store import Store
from anneal.training.adapters import finished as module
from anneal.training.adapters.finished import Finished, FinishedTrainings, WeightsDamaged, fingerprint_of

PROJECT = "projects/p"
SPEC: dict[str, Any] = {"method": "lora", "seed": 1, "lora": {"rank": 4}}
BASE, ROWS = "sha256:" + "a" * 64, "sha256:" + "b" * 64
MARK = fingerprint_of(PROJECT, SPEC, BASE, [ROWS])


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(str(tmp_path / "store"), tmp_path / "cache")


def weights(store: Store, tmp_path: Path) -> str:
    folder = tmp_path / "artifact"
    (folder / "inner").mkdir(parents=True, exist_ok=True)
    (folder / "weights").write_bytes(b"w" * 100)
    (folder / "inner" / "config").write_bytes(b"{}")
    return store.put_tree(folder)


@pytest.fixture
def recorded(store: Store, tmp_path: Path) -> Finished:
    made = Finished(
        result={"num_steps": 3, "loss": float("nan"), "text": "\ud800"},
        weights=weights(store, tmp_path),
        trained_by="projects/p/operations/train-0",
        operation="projects/p/operations/train-1",
    )
    FinishedTrainings(store, PROJECT).put(MARK, made)
    return made


def test_what_was_recorded_is_found(store: Store, recorded: Finished) -> None:
    found = FinishedTrainings(store, PROJECT).find(MARK)
    assert found is not None
    assert (found.weights, found.trained_by, found.operation) == (
        recorded.weights,
        recorded.trained_by,
        recorded.operation,
    )
    assert (found.result["num_steps"], found.result["text"]) == (3, "\ud800")


def test_another_project_finds_nothing(store: Store, recorded: Finished) -> None:
    other = FinishedTrainings(store, "projects/q")
    assert other.find(MARK) is None
    record = store.record(f"trainings/p/{MARK[7:]}")
    store.put_record(f"trainings/q/{MARK[7:]}", record)  # not even by a copy of the record
    with pytest.raises(WeightsDamaged, match="describes something else"):
        other.find(MARK)


@pytest.mark.parametrize("which", ["tree", "weights", "inner/config", "result"])
@pytest.mark.parametrize("harm", ["flip", "cut", "empty", "delete"])
def test_damage_is_found_told_once_and_mended_by_the_same_training(
    store: Store, recorded: Finished, tmp_path: Path, which: str, harm: str
) -> None:
    record = store.record(f"trainings/p/{MARK[7:]}")
    named = {"tree": record["weights"], "result": record["result"]}
    digest = named.get(which) or store.tree(record["weights"])[which]["digest"]
    path = Path(store.url) / store._key(digest)
    data = path.read_bytes()
    match harm:
        case "flip":
            path.write_bytes(bytes([data[0] ^ 1]) + data[1:])
        case "cut":
            path.write_bytes(data[:-1])
        case "empty":
            path.write_bytes(b"")
        case "delete":
            path.unlink()
    stored = FinishedTrainings(store, PROJECT)
    with pytest.raises(WeightsDamaged, match="missing or damaged"):
        stored.find(MARK)
    assert stored.find(MARK) is None
    assert weights(store, tmp_path) == recorded.weights
    stored.put(MARK, recorded)
    assert stored.find(MARK) is not None
    assert store.get_bytes(digest) == data


@pytest.mark.parametrize("text", [b"", b"{", b"[]", b"{}", b'{"format": "other"}', b"null"])
def test_a_record_that_cannot_be_read_is_told_and_deleted(store: Store, recorded: Finished, text: bytes) -> None:
    (Path(store.url) / f"records/trainings/p/{MARK[7:]}.json").write_bytes(text)
    stored = FinishedTrainings(store, PROJECT)
    if text != b"null":  # as good as none
        with pytest.raises(WeightsDamaged):
            stored.find(MARK)
    assert stored.find(MARK) is None


def test_an_operation_that_succeeded_is_forgotten_and_no_other(store: Store, recorded: Finished) -> None:
    stored = FinishedTrainings(store, PROJECT)
    other = fingerprint_of(PROJECT, {**SPEC, "seed": 2}, BASE, [ROWS])
    stored.put(
        other, Finished(result={}, weights=recorded.weights, trained_by="", operation="projects/p/operations/train-2")
    )
    stored.forget_operation(recorded.operation)
    assert stored.find(MARK) is None
    assert stored.find(other) is not None
    stored.forget_operation(recorded.operation)


def test_everything_is_on_the_disk_before_the_record_is(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A power cut right before the record is written finds every blob that it names flushed."""
    flushed: list[str] = []
    monkeypatch.setattr(Store, "_flush", lambda _, key: flushed.append(key))
    written: list[list[str]] = []
    put = Store.put_record

    def put_record(self: Store, path: str, value: Any) -> None:
        written.append([*flushed])
        put(self, path, value)

    monkeypatch.setattr(Store, "put_record", put_record)
    tree = weights(store, tmp_path)
    FinishedTrainings(store, PROJECT).put(MARK, Finished(result={}, weights=tree, trained_by="o", operation="o"))
    record = store.record(f"trainings/p/{MARK[7:]}")
    digests = [tree, record["result"], *(entry["digest"] for entry in store.tree(tree).values())]
    assert set(written[0]) == {store._key(digest) for digest in digests}
    assert flushed[-1] == f"records/trainings/p/{MARK[7:]}.json"


def test_a_flush_needs_the_file(store: Store) -> None:
    with pytest.raises(FileNotFoundError):
        store.flush([BASE])


changes = st.sampled_from(
    [
        ("projects/q", SPEC, BASE, [ROWS]),
        (PROJECT, {**SPEC, "seed": 2}, BASE, [ROWS]),
        (PROJECT, {**SPEC, "lora": {"rank": 8}}, BASE, [ROWS]),
        (PROJECT, SPEC, ROWS, [ROWS]),
        (PROJECT, SPEC, BASE, [BASE]),
        (PROJECT, SPEC, BASE, [ROWS, BASE]),
        (PROJECT, SPEC, BASE, [BASE, ROWS]),
    ]
)


@given(changes, changes)
def test_other_trainings_have_other_fingerprints(one: Any, other: Any) -> None:
    assert (fingerprint_of(*one) == fingerprint_of(*other)) == (one == other)
    assert fingerprint_of(*one) != MARK


@pytest.mark.parametrize("library", module.LIBRARIES)
def test_other_libraries_are_another_training(library: str, monkeypatch: pytest.MonkeyPatch) -> None:
    real = module._version_of
    monkeypatch.setattr(module, "_version_of", lambda name: "9.9" if name == library else real(name))
    assert fingerprint_of(PROJECT, SPEC, BASE, [ROWS]) != MARK
