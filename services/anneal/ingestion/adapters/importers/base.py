"""What every row format has in common: marks to recognise it by, and rows or a cause."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

from anneal.ingestion.adapters.rows import loads
from anneal.kit.records import RecordKind

ROLES = frozenset({"system", "user", "assistant", "tool"})
Turn = dict[str, Any]


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
        messages: the conversation, or the prompt of a preference; empty for a document.
        chosen: the wanted answer of a preference; None where it has none.
        rejected: the unwanted answer of a preference; None where it has none.
        margin: by how much the wanted answer is better, where the row says so.
        text: the document's text; empty for a conversation.
        uri: where the document is from, if the row says so.
        title: of the document.
        language: of the document.
        license: of the document.
        tools: JSON list of tools; None where there are none.
        meta: what else is kept of the row, beside the columns that its format does not read.
    """

    messages: tuple[Turn, ...] = ()
    chosen: tuple[Turn, ...] | None = None
    rejected: tuple[Turn, ...] | None = None
    margin: float | None = None
    text: str = ""
    uri: str = ""
    title: str = ""
    language: str = ""
    license: str = ""
    tools: str | None = None
    meta: Mapping[str, Any] | None = None


class Importer(Protocol):
    """One row format. Names of columns are in lower case when a row comes here."""

    @property
    def kind(self) -> RecordKind:
        """What its rows become."""
        ...

    @property
    def fields(self) -> frozenset[str]:
        """The columns it reads; all others are kept in the row's `meta`."""
        ...

    def recognises(self, row: Mapping[str, Any]) -> bool:
        """Whether a row carries the marks of this format."""
        ...

    def read(self, row: Mapping[str, Any]) -> Iterator[Imported]:
        """What a row becomes: usually one thing.

        Raises:
            BadRow: the row cannot be used.
        """
        ...


@runtime_checkable
class Joiner(Protocol):
    """A row format of which several rows make one: it sees all of them before any is read."""

    def join(
        self, rows: Iterable[tuple[int, Mapping[str, Any]]]
    ) -> Iterator[tuple[int, Mapping[str, Any]] | tuple[int, BadRow]]:
        """The rows that `read` takes, each with the number of the row it begins with, and those that join nothing."""
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


def first_text(row: Mapping[str, Any], *fields: str) -> str:
    """The first of some fields that holds a text; empty where none does.

    Raises:
        BadRow: one holds something else.
    """
    texts = (text_of(row, field, required=False) for field in fields)
    return next((text for text in texts if text.strip()), "")


def json_text(value: Any, what: str) -> str:
    """A value as JSON text.

    Raises:
        BadRow: JSON has no such value: bytes, a date, NaN.
    """
    try:
        return json.dumps(value, ensure_ascii=False, sort_keys=True, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise BadRow("wrong_type", f"{what} cannot be JSON: {error}") from error


def parsed(row: Mapping[str, Any], field: str) -> Any:
    """A field that holds a list or an object, or the JSON text of one; an empty text is None.

    Raises:
        BadRow: it is a text and not JSON.
    """
    value = row.get(field)
    if not isinstance(value, str):
        return value
    if not value.strip():
        return None
    try:
        return loads(value)
    except (ValueError, RecursionError) as error:
        raise BadRow("wrong_type", f"the field {field!r} is text and not JSON: {error}") from error


def is_list(row: Mapping[str, Any], field: str) -> bool:
    """Whether a field holds a list, or text that begins like the JSON of one."""
    value = row.get(field)
    return isinstance(value, list) or (isinstance(value, str) and value.lstrip().startswith("["))


def tools_of(row: Mapping[str, Any], field: str = "tools") -> str | None:
    """The tools of a row as JSON text; OpenAI's older `functions` become tools.

    Raises:
        BadRow: they are no list of objects.
    """
    tools = parsed(row, field)
    functions = parsed(row, "functions") if not tools else None
    if functions:
        tools = [{"type": "function", "function": one} for one in functions] if isinstance(functions, list) else {}
    if tools is None or tools == []:
        return None
    if not isinstance(tools, list):
        raise BadRow("wrong_type", f"the field {field!r} is not a list")
    if not all(isinstance(tool, Mapping) for tool in tools):
        raise BadRow("wrong_type", f"an entry of {field!r} is not an object")
    return json_text(tools, f"the field {field!r}")


def conversation(turns: Iterable[Turn], *, tools: str | None = None, meta: Any = None) -> Imported:
    """A checked conversation. Instructions, questions and results of tools may be empty; answers may not.

    Raises:
        BadRow: an unknown role, an empty assistant turn, no turn of the assistant or the user, or none to learn.
    """
    messages = checked(turns)
    answers = [message for message in messages if message["role"] == "assistant"]
    if not answers:
        raise BadRow("no_assistant_turn", "the conversation has no assistant turn: there is nothing to learn from it")
    if not any(message["role"] == "user" for message in messages):
        raise BadRow("no_user_turn", "the conversation has no user turn")
    if not any(message.get("weight") != 0 for message in answers):
        raise BadRow("no_learned_turn", "every assistant turn has the weight 0: there is nothing to learn from it")
    return Imported(messages=messages, tools=tools, meta=meta)


def preference(
    prompt: Iterable[Turn],
    chosen: Iterable[Turn] | None,
    rejected: Iterable[Turn] | None,
    *,
    tools: str | None = None,
    margin: float | None = None,
    meta: Any = None,
) -> Imported:
    """A checked preference: a prompt with a question, and one answer or two that differ.

    Raises:
        BadRow: there is no question or no answer, an answer does not end with the assistant, or both are the same.
    """
    sides = [None if side is None else checked(side) for side in (chosen, rejected)]
    messages = checked(prompt)
    if not any(message["role"] == "user" for message in messages):
        raise BadRow("no_user_turn", "the prompt has no user turn")
    if messages[-1]["role"] == "assistant":
        raise BadRow("answered_prompt", "the prompt ends with an assistant turn: the answers answer nothing")
    if not any(sides):
        raise BadRow("missing_field", "there is neither a wanted nor an unwanted answer")
    for name, side in zip(("chosen", "rejected"), sides, strict=True):
        if side is not None and (not side or side[-1]["role"] != "assistant"):
            raise BadRow("no_assistant_turn", f"the {name} answer does not end with an assistant turn")
    if sides[0] == sides[1]:
        raise BadRow("equal_answers", "the wanted and the unwanted answer are the same")
    return Imported(messages=messages, chosen=sides[0], rejected=sides[1], tools=tools, margin=margin, meta=meta)


def checked(turns: Iterable[Turn]) -> tuple[Turn, ...]:
    """Turns with known roles, and answers that say something or call a tool.

    Raises:
        BadRow: an unknown role, or an empty assistant turn.
    """
    messages = tuple(turns)
    for number, message in enumerate(messages):
        role = message["role"]
        if role not in ROLES:
            raise BadRow("unknown_role", f"the role {role!r} is none of {', '.join(sorted(ROLES))}")
        if role == "assistant" and not (message["content"] or "").strip() and not message.get("tool_calls"):
            raise BadRow("empty_answer", f"message {number} is an empty assistant turn: nothing can be learnt from it")
    return messages
