"""Parts appear whole or not at all, in their order."""

from __future__ import annotations

from pathlib import Path

from anneal.ingestion.adapters.parts import Outcome, Parts


def test_parts_come_back_in_order_after_a_restart(tmp_path: Path) -> None:
    parts = Parts(tmp_path / "parts")
    made = [Outcome(rows=[{"text": f"é {index}"}], files=index, size_bytes=1) for index in range(12)]
    for outcome in made:
        parts.append(outcome)
    again = Parts(tmp_path / "parts")
    assert again.count == 12
    assert list(again) == made


def test_a_part_that_was_being_written_does_not_count(tmp_path: Path) -> None:
    parts = Parts(tmp_path)
    parts.append(Outcome(files=1))
    (tmp_path / "00000001.new").write_text('{"rows": [')
    again = Parts(tmp_path)
    assert again.count == 1
    again.append(Outcome(files=2))
    assert [outcome.files for outcome in again] == [1, 2]
