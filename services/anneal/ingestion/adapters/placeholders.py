"""Placeholders of sets that teach a model who it is: `{{NAME}}` and `{{AUTHOR}}`, filled with what the order says."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from anneal.ingestion.adapters.importers.base import BadRow, Imported, Turn

NAMES = ("NAME", "AUTHOR")
"""Those that sets of self-cognition use, in any case."""
_KNOWN = re.compile(r"\{\{(name|author)\}\}", re.I)
_CODE = re.compile(r"```.*?(?:```|\Z)|`[^`\n]*`", re.S)


class Placeholders:
    """Fills placeholders, and says which were found."""

    def __init__(self, values: Mapping[str, str]) -> None:
        self._values = {name.lower(): value for name, value in values.items()}
        names = "|".join(re.escape(name) for name in self._values)
        self._pattern = re.compile(r"\{\{\s*(" + names + r")\s*\}\}", re.I) if names else None
        self.found: set[str] = set()

    def fill(self, one: Imported) -> Imported:
        """A row with its placeholders filled.

        Raises:
            BadRow: it holds one that is not given.
        """
        filled = self.filled(one)
        left = self.left(filled)
        if left:
            cause = f"an answer holds {', '.join(left)}: say in `placeholders` what stands there"
            raise BadRow("placeholder_unfilled", cause)
        return filled

    def filled(self, one: Imported) -> Imported:
        """A row with those placeholders filled that are given."""
        if one.text:
            return one
        return replace(
            one,
            messages=self._turns(one.messages),
            chosen=None if one.chosen is None else self._turns(one.chosen),
            rejected=None if one.rejected is None else self._turns(one.rejected),
        )

    def left(self, one: Imported) -> list[str]:
        """The placeholders in a row's answers that are not given."""
        turns = (*one.messages, *(one.chosen or ()), *(one.rejected or ()))
        return [name for name in unfilled(turns) if name.lower() not in self._values]

    def _turns(self, turns: Sequence[Turn]) -> tuple[Turn, ...]:
        return tuple(
            {**turn, **{name: self._text(turn[name]) for name in ("content", "reasoning") if turn.get(name)}}
            for turn in turns
        )

    def _text(self, text: str) -> str:
        return text if self._pattern is None else self._pattern.sub(self._value, text)

    def _value(self, match: re.Match[str]) -> str:
        name = match[1].lower()
        self.found.add(name)
        return self._values[name]

    @property
    def unused(self) -> list[str]:
        """Those that were given and stand nowhere."""
        return sorted(self._values.keys() - self.found)


def unfilled(turns: Sequence[Mapping[str, Any]]) -> list[str]:
    """The names of known placeholders in answers, where they stand outside of code."""
    texts = (str(turn["content"]) for turn in turns if turn["role"] == "assistant" and turn.get("content"))
    names = {match[1].upper() for text in texts for match in _KNOWN.finditer(_CODE.sub("", text))}
    return sorted(names, key=NAMES.index)
