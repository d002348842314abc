"""Scores written into rows."""

from __future__ import annotations

import pyarrow as pa

from anneal.curation.domain.steps.base import Scores


def scored(batch: pa.RecordBatch, scores: Scores, step: str) -> pa.RecordBatch:
    """Rows with their scores."""
    raise NotImplementedError
