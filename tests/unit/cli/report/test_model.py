"""The schema of report.json: what goes in comes out, what does not belong is refused."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from pydantic import ValidationError

from anneal.cli.report.model import Number, Report
from tests.unit.cli.report.sample import sample_report


def test_round_trip() -> None:
    report = sample_report()
    assert Report.model_validate_json(report.model_dump_json()) == report


def test_rows_balance() -> None:
    for dataset in sample_report().datasets:
        removed = sum(removal.rows for removal in dataset.removed)
        assert dataset.rows_in == dataset.rows_out + removed + dataset.quarantined


def test_an_early_end_needs_only_a_title_and_a_start() -> None:
    assert Report(title="run", started=datetime(2026, 1, 1, tzinfo=UTC)).steps == []


def test_unknown_keys_and_numbers_that_are_none_are_refused() -> None:
    with pytest.raises(ValidationError, match="Extra inputs"):
        Report.model_validate({"title": "t", "started": "2026-01-01T00:00:00Z", "colour": "red"})
    with pytest.raises(ValidationError, match="finite"):
        Number(value=float("nan"))
