"""What every row format has in common: marks to recognise it by, and rows or a cause."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from anneal.kit.records import RecordKind

ROLES = frozenset({"system", "user", "assistant", "tool"})


class BadRow(Exception):
    """A row that cannot be used.

    Attributes:
        reason: stable, such as `wrong_type`.
    """

    def __init__(self, reason: str, cause: str) -> None:
        super().__init__(cause)
        self.reason = reason


@dataclass(frozen=True, slots=True, kw_only=True)
class Imported:
    """What a row became.

    Attributes:
        messages: the conversation; empty for a document.
        text: the document's text; empty for a conversation.
        tools: JSON list of tools; None where there are none.
        meta: what else is kept of the row.
    """

    messages: tuple[Mapping[str, str], ...] = ()
    text: str = ""
    tools: str | None = None
    meta: Mapping[str, Any] | None = None


class Importer(Protocol):
    """One row format."""

    kind: RecordKind

    def recognises(self, row: Mapping[str, Any]) -> bool:
        """Whether a row carries the marks of this format."""
        ...

    def read(self, row: Mapping[str, Any]) -> Iterator[Imported]:
        """What a row becomes: usually one thing, several for a tree.

        Raises:
            BadRow: the row cannot be used.
        """
        ...


def text_of(row: Mapping[str, Any], field: str, *, required: bool = True) -> str:
    """A field that must be text.

    Raises:
        BadRow: it is missing, empty or of another type.
    """
    value = row.get(field)
    if value is None and not required:
        return ""
    if value is None:
        raise BadRow("missing_field", f"the field {field!r} is missing")
    if not isinstance(value, str):
        raise BadRow("wrong_type", f"the field {field!r} is {type(value).__name__}, not text")
    if required and not value.strip():
        raise BadRow("empty_field", f"the field {field!r} is empty")
    return value


def json_text(value: Any, what: str) -> str:
    """A value as JSON text.

    Raises:
        BadRow: JSON has no such value: bytes, a date, NaN.
    """
    try:
        return json.dumps(value, ensure_ascii=False, sort_keys=True, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise BadRow("wrong_type", f"{what} cannot be JSON: {error}") from error


def conversation(turns: Iterable[tuple[str, str]], *, tools: str | None = None, meta: Any = None) -> Imported:
    """A checked conversation. Instructions, questions and results of tools may be empty; answers may not.

    Raises:
        BadRow: an unknown role, an empty assistant turn, or no turn of the assistant or the user.
    """
    messages = []
    for number, (role, content) in enumerate(turns):
        if role not in ROLES:
            raise BadRow("unknown_role", f"the role {role!r} is none of {', '.join(sorted(ROLES))}")
        if role == "assistant" and not content.strip():
            raise BadRow("empty_answer", f"message {number} is an empty assistant turn: nothing can be learnt from it")
        messages.append({"role": role, "content": content})
    if not any(message["role"] == "assistant" for message in messages):
        raise BadRow("no_assistant_turn", "the conversation has no assistant turn: there is nothing to learn from it")
    if not any(message["role"] == "user" for message in messages):
        raise BadRow("no_user_turn", "the conversation has no user turn")
    return Imported(messages=tuple(messages), tools=tools, meta=meta)
