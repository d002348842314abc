"""What a worker is told. Imports no torch: it is written where none is needed."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class RunOrder:
    """What a worker is told: plain values only, so that they travel to any process.

    Attributes:
        spec: as `TrainingSpec.as_mapping`; `context_tokens` 0 means the base model's context.
        base_folder: folder of the base model.
        base_name: digest of the base model; written into the adapter.
        train_files: Parquet files of the training split.
        validation_files: Parquet files of the validation split; may be empty.
        folder: the run folder.
        fingerprint: digest of spec, data and base.
        expect: nothing is trained. What serving must answer with the adapter in `artifact` is computed in this number
            format, for the expectations in the run folder's `parity.json`.
        artifact: folder of that adapter.
    """

    spec: dict[str, Any]
    base_folder: str
    base_name: str
    train_files: list[str]
    validation_files: list[str] = field(default_factory=list)
    folder: str
    fingerprint: str
    expect: str = ""
    artifact: str = ""
