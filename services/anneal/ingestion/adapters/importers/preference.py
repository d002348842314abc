"""Rows with a prompt, a wanted and an unwanted answer: TRL's and LLaMA-Factory's form.

The prompt stands in `prompt`, `question`, `query`, `instruction` with `input`, `messages` or `conversations`; the
answers in `chosen` and `rejected`. All may be texts or messages. Answers that are whole conversations have their prompt
in common: what they begin with alike. One answer may be missing.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

from anneal.ingestion.adapters.importers.alpaca import INPUTS, alpaca_prompt
from anneal.ingestion.adapters.importers.base import BadRow, Imported, Turn, preference, tools_of
from anneal.ingestion.adapters.importers.openai import turns_of
from anneal.ingestion.adapters.media import check_columns
from anneal.ingestion.adapters.pairs import BESIDE, answer_of, prompt_of
from anneal.ingestion.adapters.turns import turns_in_text
from anneal.kit.records import RecordKind

LISTS = ("messages", "conversations")
PROMPTS = ("prompt", "question", "query", "instruction", *LISTS)


class Preference:
    """Reads rows of a prompt and two answers."""

    kind: RecordKind = "preference"
    fields = frozenset({*PROMPTS, *INPUTS, *BESIDE, "chosen", "rejected", "margin"})

    def recognises(self, row: Mapping[str, Any]) -> bool:
        """Whether it has both answers, and a prompt or answers that hold theirs."""
        return "chosen" in row and "rejected" in row

    def read(self, row: Mapping[str, Any]) -> Iterator[Imported]:
        """One preference.

        Raises:
            BadRow: a field is missing or of the wrong type.
        """
        check_columns(row)
        wanted, unwanted = _side(row, "chosen"), _side(row, "rejected")
        named = next((name for name in PROMPTS if row.get(name)), "")
        prompt, more = asked(row, named) if named else ([], {})
        shared, wanted, unwanted = _split(wanted, unwanted)
        if shared:
            if prompt and [one["content"] for one in prompt] != [one["content"] for one in shared[-len(prompt) :]]:
                raise BadRow("two_prompts", f"the answers begin with another prompt than the field {named!r} holds")
            prompt = shared if len(shared) >= len(prompt) else prompt
        if not prompt:
            raise BadRow("missing_field", "there is no prompt: neither a field nor what the answers begin with")
        yield preference(prompt, wanted, unwanted, tools=tools_of(row), margin=_margin(row), meta=more)


def asked(row: Mapping[str, Any], field: str) -> tuple[list[Turn], dict[str, Any]]:
    """The prompt in a field of a row, and what of it no message holds.

    Raises:
        BadRow: it is of the wrong type.
    """
    if field in LISTS:
        return turns_of(row, field)
    if field == "instruction":
        return alpaca_prompt(row), {}
    return prompt_of({**row, field: turns_in_text(row[field])}, field)


def _side(row: Mapping[str, Any], field: str) -> list[Turn] | None:
    value = row.get(field)
    if value is None or value in ("", []):
        return None
    return answer_of({field: turns_in_text(value)}, field)[0]


def _split(
    wanted: list[Turn] | None, unwanted: list[Turn] | None
) -> tuple[list[Turn], list[Turn] | None, list[Turn] | None]:
    """What both answers begin with up to a question, and the rest of each."""
    whole = [side for side in (wanted, unwanted) if side]
    pairs = [*zip(*whole, strict=False)]
    alike = next((place for place, turns in enumerate(pairs) if turns[0] != turns[-1]), len(pairs))
    if len(whole) == 1:
        alike = max((place + 1 for place, turn in enumerate(whole[0]) if turn["role"] == "user"), default=0)
    while alike and (whole[0][alike - 1]["role"] == "assistant" or alike == min(map(len, whole))):
        alike -= 1
    shared = list(whole[0][:alike]) if whole else []
    if not any(turn["role"] == "user" for turn in shared):
        return [], wanted, unwanted
    return shared, wanted and wanted[alike:], unwanted and unwanted[alike:]


def _margin(row: Mapping[str, Any]) -> float | None:
    margin = row.get("margin")
    if margin is None or margin == "":
        return None
    try:
        found = float(margin)
    except (TypeError, ValueError):
        found = math.nan
    if isinstance(margin, bool) or not math.isfinite(found):
        raise BadRow("wrong_type", f"the field 'margin' is {str(margin)[:40]}, no number")
    return found
