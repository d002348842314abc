"""Put placeholders such as `[EMAIL]` where rows hold personal data or secrets; domain/pii.py says what is found."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from anneal.curation.domain.pii import PII_KINDS, PiiKind, find_pii, suspects_of
from anneal.curation.domain.steps.base import need
from anneal.curation.domain.texts import Messages, is_conversation

# By kind, the number of each value of a row; the value without what may be written in several ways.
Names = dict[PiiKind, dict[str, int]]


@dataclass(frozen=True, slots=True, kw_only=True)
class PiiMask:
    """Mask what is found: in every message of a conversation, in the text and the title of a document.

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
        column, offsets = batch.column("messages"), Messages(batch).offsets
        flat = column.flatten()
        rows = np.repeat(np.arange(batch.num_rows), np.diff(offsets))
        role, content = flat.flatten()
        masked = self._mask(content, rows, names)
        if masked is content:
            return batch
        turns = pa.StructArray.from_arrays([role, masked], fields=list(flat.type), mask=flat.is_null())
        bounds = pa.array(offsets, type=pa.int32())
        lists = pa.ListArray.from_arrays(bounds, turns, type=column.type, mask=column.is_null())
        return batch.set_column(batch.schema.get_field_index("messages"), batch.schema.field("messages"), lists)

    def _mask(self, texts: pa.Array, rows: NDArray[np.int64], names: dict[int, Names]) -> pa.Array:
        """Texts with placeholders; `names` learns the finds of each row."""
        masked: dict[int, str] = {}
        for place, kinds in sorted(suspects_of(pc.fill_null(texts, ""), self.kinds).items()):
            text = texts[place].as_py()
            fresh = self._masked(text, kinds, names.setdefault(int(rows[place]), {}))
            if fresh != text:
                masked[place] = fresh
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
