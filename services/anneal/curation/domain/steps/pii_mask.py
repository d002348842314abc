"""Put placeholders such as `[EMAIL]` where rows hold personal data or secrets; domain/pii.py says what is found."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from anneal.curation.domain.pii import PII_KINDS, PiiKind, find_pii, suspects_of
from anneal.curation.domain.steps.base import need
from anneal.curation.domain.texts import is_conversation
from anneal.kit.records import MESSAGE_COLUMNS

_TEXTS = ("content", "reasoning", "name")
_STRING = re.compile(r'("(?:[^"\\]|\\.)*")', re.S)
_BARE = re.compile(r"([-+.\w]*\[[A-Z][A-Z_]*(?:_\d+)?\][-+.\w]*)")
# By kind, the number of each value of a row; the value without what may be written in several ways.
Names = dict[PiiKind, dict[str, int]]


@dataclass(frozen=True, slots=True, kw_only=True)
class PiiMask:
    """Mask what is found, in every message of a row and in the text and the title of a document.

    Of a message its content, its reasoning, its name and the arguments of its calls, which stay JSON, are looked at.
    Tools, sources, origins and `meta` stay as they are.

    Attributes:
        kinds: what is masked.
        numbered: whether the values of a row are told apart, as in `[EMAIL_1]`: equal values get equal numbers.

    Raises:
        WrongSetting: no kind is named, or one twice.
    """

    kinds: tuple[PiiKind, ...] = PII_KINDS
    numbered: bool = False

    def __post_init__(self) -> None:
        need(0 < len(self.kinds) == len(set(self.kinds)), "kinds", "none is named, or one twice")

    def rewrite(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        """The rows with placeholders; a batch without finds comes back as it is."""
        names: dict[int, Names] = {}
        if not is_conversation(batch):
            for column in ("title", "text"):
                if column in batch.schema.names:
                    masked = self._mask(batch.column(column), np.arange(batch.num_rows), names)
                    batch = batch.set_column(batch.schema.get_field_index(column), batch.schema.field(column), masked)
            return batch
        for name in MESSAGE_COLUMNS:
            if name in batch.schema.names:
                column = batch.column(name)
                masked = self._mask_messages(column, names)
                if masked is not column:
                    place = batch.schema.get_field_index(name)
                    batch = batch.set_column(place, batch.schema.field(place), masked)
        return batch

    def _mask_messages(self, column: pa.ListArray, names: dict[int, Names]) -> pa.ListArray:
        """Messages with placeholders in their texts, and in the arguments of the calls they make."""
        turns, owners = column.flatten(), np.repeat(np.arange(len(column)), _lengths(column))
        fields = dict(zip((field.name for field in turns.type), turns.flatten(), strict=True))
        masked = fields | {name: self._mask(fields[name], owners, names) for name in _TEXTS if name in fields}
        if "tool_calls" in fields:
            lists = fields["tool_calls"]
            calls, callers = lists.flatten(), np.repeat(owners, _lengths(lists))
            parts = dict(zip((field.name for field in calls.type), calls.flatten(), strict=True))
            arguments = self._mask(parts["arguments"], callers, names, repair=json_again)
            if arguments is not parts["arguments"]:
                masked["tool_calls"] = _relisted(lists, calls, parts | {"arguments": arguments})
        if all(masked[name] is fields[name] for name in fields):
            return column
        return _relisted(column, turns, masked)

    def _mask(
        self,
        texts: pa.Array,
        rows: NDArray[np.int64],
        names: dict[int, Names],
        repair: Callable[[str], str] = str,
    ) -> pa.Array:
        """Texts with placeholders; `names` learns the finds of each row, `repair` what a masked text is to be."""
        masked: dict[int, str] = {}
        for place, kinds in sorted(suspects_of(pc.fill_null(texts, ""), self.kinds).items()):
            text = texts[place].as_py()
            fresh = self._masked(text, kinds, names.setdefault(int(rows[place]), {}))
            if fresh != text:
                masked[place] = repair(fresh)
        if not masked:
            return texts
        is_new = np.zeros(len(texts), dtype=bool)
        is_new[list(masked)] = True
        return pc.replace_with_mask(texts, pa.array(is_new), pa.array(masked.values(), type=texts.type))

    def _masked(self, text: str, kinds: Sequence[PiiKind], names: Names) -> str:
        # A placeholder can set free what stood beside it, so look again: what is masked once stays as it is.
        while found := find_pii(text, kinds):
            kinds = self.kinds
            parts, end = [], 0
            for one in found:
                value = text[one.start : one.end]
                parts += [text[end : one.start], self._placeholder(one.kind, value, names)]
                end = one.end
            text = "".join([*parts, text[end:]])
        return text

    def _placeholder(self, kind: PiiKind, value: str, names: Names) -> str:
        plain = "".join(mark for mark in value.casefold() if mark.isalnum() or (kind == "email" and mark in "@._%+-"))
        known = names.setdefault(kind, {})
        number = known.setdefault(plain, len(known) + 1)
        return f"[{kind.upper()}_{number}]" if self.numbered else f"[{kind.upper()}]"


def json_again(text: str) -> str:
    """JSON in which values that were no text have become placeholders, with those as texts."""
    pieces = _STRING.split(text)  # what stands between strings, and the strings, by turns
    pieces[::2] = [_BARE.sub(r'"\1"', piece) for piece in pieces[::2]]
    return "".join(pieces)


def _lengths(column: pa.ListArray) -> NDArray[np.int64]:
    lengths: NDArray[np.int64] = pc.fill_null(pc.list_value_length(column), 0).to_numpy(zero_copy_only=False)
    return lengths


def _relisted(lists: pa.ListArray, old: pa.StructArray, parts: Mapping[str, pa.Array]) -> pa.ListArray:
    """Lists of as many structs as before, of other parts."""
    structs = pa.StructArray.from_arrays([*parts.values()], fields=list(old.type), mask=old.is_null())
    bounds = pa.array(np.concatenate(([0], np.cumsum(_lengths(lists)))), pa.int32())
    return pa.ListArray.from_arrays(bounds, structs, type=lists.type, mask=lists.is_null())
