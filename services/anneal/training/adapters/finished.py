"""Trainings that ended, by what they were asked to do: their weights and results are in the object store.

A training is recorded before anything is done with its weights that needs another service. When that fails, the next
attempt, or a new request for the same training, takes the weights up instead of training again. The record is deleted
when an operation that used it has succeeded: from then on the registry names the weights.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from anneal.kit import names
from anneal.kit.digests import digest_of, hex_of
from anneal.kit.store import BlobDamaged, BlobMissing, Store

FORMAT = "anneal-finished-training/1"
REVISION = 2
"""Raise it with a change to training after which the same request gives other weights or another `result.json`."""
LIBRARIES = ("torch", "transformers", "peft")


class WeightsDamaged(Exception):
    """A training is recorded, but what it left in the store is missing or damaged."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Finished:
    """A training that has ended.

    Attributes:
        result: what `run.train_run` left in `result.json`.
        weights: digest of the tree of files that it wrote.
        trained_by: the operation that trained.
        operation: the last operation that uses the weights.
    """

    result: dict[str, Any]
    weights: str
    trained_by: str
    operation: str


def fingerprint_of(project: str, spec: dict[str, Any], base_digest: str, dataset_digests: Sequence[str]) -> str:
    """Digest of everything that the weights of a training depend on.

    `spec` is the resolved one: it holds the seed and the forward passes of all workers together. The versions of the
    libraries belong to it because other versions round otherwise, and a request after an upgrade is meant to train with
    the new ones. The release of Anneal does not, so that the weights outlast an upgrade that mends serving; `REVISION`
    stands for the training's own code. `auto` as precision stays `auto`: whichever the system chose is what was asked.
    The project belongs to it so that no project takes up, or learns of, the trainings of another one.
    """
    return digest_of(
        {
            "project": project,
            "spec": spec,
            "base": base_digest,
            "datasets": list(dataset_digests),
            "revision": REVISION,
            "libraries": {name: _version_of(name) for name in LIBRARIES},
        }
    )


def _version_of(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return ""


class FinishedTrainings:
    """The recorded trainings of one project."""

    def __init__(self, store: Store, project: str) -> None:
        self._store = store
        self._project = project
        self._folder = f"trainings/{names.last_id(project)}"

    def put(self, fingerprint: str, finished: Finished) -> None:
        """Record a training whose weights are in the store; a record of the same training is replaced.

        Everything the record names is on the disk before the record is, so a power cut leaves a whole one or none.
        """
        store = self._store
        result = store.put_bytes(json.dumps(finished.result, sort_keys=True).encode())
        store.flush([result, finished.weights, *(entry["digest"] for entry in store.tree(finished.weights).values())])
        record = {
            "format": FORMAT,
            "project": self._project,
            "fingerprint": fingerprint,
            "trained_by": finished.trained_by,
            "operation": finished.operation,
            "result": result,
            "weights": finished.weights,
        }
        store.put_record(self._path(fingerprint), record)

    def find(self, fingerprint: str) -> Finished | None:
        """The recorded training, every byte of it read and verified; None where there is none.

        Raises:
            WeightsDamaged: something of it is missing or damaged. The record is deleted.
        """
        try:
            record = self._read(fingerprint)
            if record is None:
                return None
            if not self._store.is_whole_tree(record["weights"]):
                raise WeightsDamaged(f"a file of {record['weights']} is missing or damaged")
            if not self._store.is_whole(record["result"]):
                raise WeightsDamaged(f"the result {record['result']} is missing or damaged")
            return Finished(
                result=json.loads(self._store.get_bytes(record["result"])),
                weights=record["weights"],
                trained_by=record["trained_by"],
                operation=record["operation"],
            )
        except WeightsDamaged:
            self.forget(fingerprint)
            raise
        except (ValueError, KeyError, TypeError, BlobMissing, BlobDamaged) as error:
            self.forget(fingerprint)
            raise WeightsDamaged(f"its record cannot be read: {error}") from error

    def _read(self, fingerprint: str) -> dict[str, Any] | None:
        record: dict[str, Any] | None = self._store.record(self._path(fingerprint))
        if record is None:
            return None
        if (record["format"], record["project"], record["fingerprint"]) != (FORMAT, self._project, fingerprint):
            raise ValueError("it describes something else")
        return record

    def forget(self, fingerprint: str) -> None:
        """Delete a record; the weights stay until nothing names them."""
        self._store.delete_record(self._path(fingerprint))

    def forget_operation(self, operation: str) -> None:
        """Delete the records of an operation that has succeeded."""
        for path, record in list(self._store.records(self._folder)):
            if isinstance(record, dict) and record.get("operation") == operation:
                self._store.delete_record(path)

    def _path(self, fingerprint: str) -> str:
        return f"{self._folder}/{hex_of(fingerprint)}"
