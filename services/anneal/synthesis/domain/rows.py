"""What a generator hands out: a row, a row taken out with its reason, or a candidate that could not be read."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

MAX_RAW_CHARACTERS = 2_000
"""How much of what could not be read is kept."""


@dataclass(frozen=True, slots=True)
class Message:
    """One turn of a conversation."""

    role: str
    content: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Draft:
    """A conversation as generated, before it has an id.

    Attributes:
        source: group key, the uri of the document it comes from.
        origin: generator, task or teacher, prompt digest, place in the document.
        fresh: the text whose novelty counts (it leaves out what was copied into the prompt).
        evidence: the text an answer must rest on; empty where the reference is the document's own.
    """

    messages: tuple[Message, ...]
    source: str
    parents: tuple[str, ...]
    origin: Mapping[str, Any]
    fresh: str
    evidence: str = ""
    scores: Mapping[str, float] = field(default_factory=dict)

    @property
    def answer(self) -> str:
        """What the assistant says last."""
        return self.messages[-1].content

    def scored(self, **scores: float) -> Draft:
        """The same row with more scores."""
        return replace(self, scores={**self.scores, **scores})


@dataclass(frozen=True, slots=True, kw_only=True)
class Removed:
    """A row that stays out, and why."""

    draft: Draft
    step: str
    reason: str
    numbers: Mapping[str, float] = field(default_factory=dict)
    duplicate_of: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Malformed:
    """A candidate that never became a row: a broken document, a template that failed, an answer nobody can read."""

    file: str
    byte_offset: int
    cause: str
    reason: str
    raw: str


Outcome = Draft | Removed | Malformed


def digest(value: Any) -> str:
    """Hex SHA-256 of the value's canonical JSON."""
    text = json.dumps(value, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()
