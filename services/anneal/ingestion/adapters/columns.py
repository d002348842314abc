"""Which columns of a table are which fields of a row, and what of it no field is."""

from __future__ import annotations

import base64
import datetime
import decimal
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from anneal.ingestion.adapters.importers.base import BadRow

TARGETS = (
    *("prompt", "answer", "system", "context", "reasoning", "history", "tools", "messages"),
    *("chosen", "rejected", "margin", "label", "text", "title", "uri", "language"),
)
"""What a column may be, where no format is named."""
_NEEDS = (
    ("kto", {"prompt", "answer", "label"}),
    ("kto", {"messages", "label"}),
    ("prompt_completion", {"prompt", "answer"}),
    ("openai", {"messages"}),
    ("preference", {"prompt", "chosen"}),
    ("preference", {"prompt", "rejected"}),
    ("preference", {"chosen", "rejected"}),
    ("text", {"text"}),
)
WANTED = (
    "`prompt` and `answer`; `prompt`, `chosen` and `rejected`; `prompt`, `answer` and `label`; `messages`; or `text`"
)


def format_of(targets: Iterable[str]) -> str | None:
    """The format that columns make which are mapped to some targets; None where they make none."""
    given = set(targets)
    return next((name for name, needed in _NEEDS if needed <= given), None)


class Columns:
    """Reads the fields of a row out of its columns."""

    def __init__(self, mapping: Mapping[str, str], fields: frozenset[str]) -> None:
        """Make a reader.

        Args:
            mapping: the column of each field; where empty, each column is the field of its name, in any case.
            fields: those that the row's format reads.
        """
        self._mapping, self._fields = mapping, fields

    def read(self, row: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
        """The fields of a row, and the columns that are none, as JSON values.

        Raises:
            BadRow: a mapped column is missing.
        """
        if not self._mapping:
            names = lowered(row)
            rest = {name: row[name] for field, name in names.items() if field not in self._fields}
            return {field: row[name] for field, name in names.items()}, _metadata_of(rest)
        missing = [column for column in self._mapping.values() if column not in row]
        if missing:
            raise BadRow("missing_field", f"the row has no column {missing[0]!r}")
        found = {_field(target, self._fields): row[column] for target, column in self._mapping.items()}
        if found.get("context") and "context" not in self._fields:
            found["prompt"] = f"{found.pop('context')}\n\n{found['prompt']}"
        used = set(self._mapping.values())
        return found, _metadata_of({name: value for name, value in row.items() if name not in used})


def lowered(row: Mapping[str, Any]) -> dict[str, str]:
    """The columns of a row by their names in lower case; those that differ in case only keep theirs."""
    names: dict[str, str] = {}
    for name in map(str, row):
        field = name.strip().lower()
        if field in names and field != name:
            names[name] = name
            continue
        if field in names:
            names[names[field]] = names[field]
        names[field] = name
    return names


def fields_of(row: Mapping[str, Any]) -> dict[str, Any]:
    """A row by the names of its columns in lower case."""
    return {field: row[name] for field, name in lowered(row).items()}


def unmapped(rows: Sequence[Mapping[str, Any]], mapping: Mapping[str, str]) -> list[str]:
    """The targets whose column no row has."""
    return [target for target, column in mapping.items() if not any(column in row for row in rows)]


def _field(target: str, fields: frozenset[str]) -> str:
    """The field of a format that a target is: an answer is what `completion` is elsewhere."""
    return "completion" if target == "answer" and "completion" in fields else target


def _metadata_of(rest: Mapping[str, Any]) -> dict[str, Any]:
    """Columns that are kept: those that hold something."""
    return {str(name): plain(value) for name, value in rest.items() if value is not None}


def plain(value: Any) -> Any:
    """A value of a table as a JSON value: dates as ISO 8601, bytes in base64, what is no number as null."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if value is None or isinstance(value, str | bool | int):
        return value
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple | set):
        return [plain(item) for item in value]
    if isinstance(value, bytes):
        return base64.b64encode(value).decode("ascii")
    if isinstance(value, datetime.date | datetime.time):
        return value.isoformat()
    if isinstance(value, datetime.timedelta):
        return value.total_seconds()
    return str(value) if isinstance(value, decimal.Decimal) else repr(value)
