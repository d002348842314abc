"""Preferences as records: both answers beside their prompt, OpenAI's form, or one answer and its label."""

from __future__ import annotations

from collections.abc import Sequence

from anneal.kit.exporters.base import LeftOut, Losses, Record, Row, openai_message, tools_of, with_meta


def _turns(row: Row, name: str) -> list[Record] | None:
    return [openai_message(turn) for turn in row[name]] if row.get(name) else None


def preference(row: Row, losses: Losses) -> Sequence[Record]:
    """Prompt, wanted and unwanted answer as messages; a side that is absent is null."""
    record: Record = {name: _turns(row, field) for name, field in (("prompt", "messages"), *_SIDES)} | tools_of(row)
    if row.get("margin") is not None:
        record["margin"] = row["margin"]
    return [with_meta(record, row, losses)]


_SIDES = (("chosen", "chosen"), ("rejected", "rejected"))


def openai_preference(row: Row, losses: Losses) -> Sequence[Record]:
    """OpenAI's form, which needs both answers."""
    if not row.get("chosen") or not row.get("rejected"):
        raise LeftOut("preferences with one answer")
    losses.fields["margin"] += row.get("margin") is not None
    record: Record = {
        "input": {"messages": _turns(row, "messages"), **tools_of(row)},
        "preferred_output": _turns(row, "chosen"),
        "non_preferred_output": _turns(row, "rejected"),
    }
    return [with_meta(record, row, losses)]


def kto(row: Row, losses: Losses) -> Sequence[Record]:
    """One answer and whether it is wanted."""
    if row.get("chosen") and row.get("rejected"):
        raise LeftOut("preferences with two answers")
    losses.fields["margin"] += row.get("margin") is not None
    is_wanted = bool(row.get("chosen"))
    answer = _turns(row, "chosen" if is_wanted else "rejected")
    record: Record = {"prompt": _turns(row, "messages"), "completion": answer, "label": is_wanted, **tools_of(row)}
    return [with_meta(record, row, losses)]
