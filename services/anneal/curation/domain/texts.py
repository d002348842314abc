"""The texts of a batch: which part of a row a step looks at, and how texts are made comparable."""

from __future__ import annotations

import unicodedata
from typing import Literal, get_args

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

Part = Literal["prompt", "answer", "conversation"]
PARTS: tuple[Part, ...] = get_args(Part)

COLUMNS = ("text", "messages")
"""Where texts stand: of documents, and of conversations."""
ASSISTANT = "assistant"

# White space that NFKC leaves alone and that is not ASCII: next line, ogham space, line and paragraph separator.
_RARE_SPACES = ("\u0085", "\u1680", "\u2028", "\u2029")
# Personalisations of BLAKE2b, so that a part never equals a whole.
_PART, _WHOLE = (np.uint64(int.from_bytes(person, "little")) for person in (b"part", b"whole"))
# The bytes of ASCII white space, as Python's `str.isspace` has it.
IS_SPACE = np.zeros(256, dtype=bool)
IS_SPACE[[9, 10, 11, 12, 13, 28, 29, 30, 31, 32]] = True


class Messages:
    """The messages of a batch of conversations, flattened: one array per field and the bounds of each row."""

    def __init__(self, batch: pa.RecordBatch) -> None:
        column = batch.column("messages")
        lengths = pc.fill_null(pc.list_value_length(column), 0).to_numpy(zero_copy_only=False)
        flat = column.flatten()
        self.lengths: NDArray[np.int64] = lengths.astype(np.int64)
        self.offsets: NDArray[np.int64] = np.concatenate(([0], np.cumsum(self.lengths)))
        self.roles: pa.Array = pc.fill_null(pc.struct_field(flat, "role"), "")
        self.contents: pa.Array = pc.fill_null(pc.struct_field(flat, "content"), "").cast(pa.large_string())

    @property
    def answered(self) -> NDArray[np.bool_]:
        """Rows whose last message is the assistant's, shape (rows,)."""
        is_assistant = pc.equal(self.roles, ASSISTANT).to_numpy(zero_copy_only=False)
        answered = np.zeros(len(self.lengths), dtype=bool)
        filled = self.lengths > 0
        answered[filled] = is_assistant[self.offsets[1:][filled] - 1]
        return answered


def is_conversation(batch: pa.RecordBatch) -> bool:
    """True for a batch of conversations, false for a batch of documents."""
    return "messages" in batch.schema.names


def text_of(batch: pa.RecordBatch, part: Part) -> pa.Array:
    """One text per row, as a `large_string` array without nulls.

    A document has one text, whatever the part. Of a conversation the answer is the last message if the assistant
    wrote it (else empty), the prompt is everything before the answer, the conversation is all; messages are joined
    by a line feed.
    """
    if not is_conversation(batch):
        return pc.fill_null(batch.column("text"), "").cast(pa.large_string())
    messages = Messages(batch)
    if part == "conversation":
        return joined(messages.contents, messages.offsets)
    answered = messages.answered
    last = messages.offsets[1:] - 1
    if part == "answer":
        places = pa.array(last, mask=~answered)
        return pc.fill_null(messages.contents.take(places), "")
    is_prompt = np.ones(len(messages.contents), dtype=bool)
    is_prompt[last[answered]] = False
    offsets = np.concatenate(([0], np.cumsum(messages.lengths - answered)))
    return joined(messages.contents.filter(pa.array(is_prompt)), offsets)


def turns_of(batch: pa.RecordBatch, part: Part) -> tuple[pa.Array, NDArray[np.int64]]:
    """The messages of a part, not joined (a `large_string` array without nulls), and the row of each, ascending."""
    if not is_conversation(batch):
        return text_of(batch, part), np.arange(batch.num_rows)
    messages = Messages(batch)
    rows = np.repeat(np.arange(batch.num_rows), messages.lengths)
    if part == "conversation":
        return messages.contents, rows
    is_answer = np.zeros(len(rows), dtype=bool)
    is_answer[messages.offsets[1:][messages.answered] - 1] = True
    wanted = is_answer if part == "answer" else ~is_answer
    return messages.contents.filter(pa.array(wanted)), rows[wanted]


def whole_of(batch: pa.RecordBatch) -> pa.Array:
    """One text per row that tells whole rows apart: messages with their roles, or the document's text."""
    if not is_conversation(batch):
        return text_of(batch, "conversation")
    messages = Messages(batch)
    mark = pa.scalar("\x02", pa.large_string())
    named = pc.binary_join_element_wise(messages.roles.cast(pa.large_string()), messages.contents, mark)
    return joined(named, messages.offsets, separator="\x03")


def joined(contents: pa.Array, offsets: NDArray[np.int64], separator: str = "\n") -> pa.Array:
    """The texts of each row in one, shape (rows,); row r is `contents[offsets[r] : offsets[r + 1]]`."""
    if separator:
        ends = np.zeros(len(contents), dtype=bool)
        ends[offsets[1:][offsets[1:] > offsets[:-1]] - 1] = True
        between = pc.if_else(pa.array(ends), "", separator).cast(pa.large_string())
        contents = pc.binary_join_element_wise(contents, between, pa.scalar("", pa.large_string()))
    octets, bounds = bytes_of(contents)
    return _from_bytes(octets, bounds[offsets])


def normalized(texts: pa.Array) -> pa.Array:
    """Texts in Unicode NFKC, lower-cased, every run of white space as one space, none at either end.

    Lower case is taken one code point at a time (Arrow's `utf8_lower`); white space is what `str.isspace` has.
    """
    from anneal.curation.domain.kernels import digests

    return _from_bytes(*digests.collapse(*bytes_of(_composed(texts))))


def digests_of(batch: pa.RecordBatch, part: Part, *, normalize: bool) -> NDArray[np.uint64]:
    """128 bits per row that are equal when the texts are; shape (rows, 2). Rows whose part is empty: their wholes.

    BLAKE2b (RFC 7693) of the UTF-8 bytes, personalised by what is compared: chance equality among 10^8 rows is below
    10^-22, and no text can be made to equal another. Equal texts have one digest whichever way they were normalised:
    rows in ASCII, which NFKC leaves alone, are lower-cased and collapsed while they are hashed.
    """
    texts = whole_of(batch) if part == "conversation" else text_of(batch, part)
    digests, sizes = _digested(texts, _PART, normalize=normalize)
    empty = sizes == 0
    if part != "conversation" and empty.any():
        digests[empty], _ = _digested(whole_of(batch.filter(pa.array(empty))), _WHOLE, normalize=normalize)
    return digests


def _digested(texts: pa.Array, person: np.uint64, *, normalize: bool) -> tuple[NDArray[np.uint64], NDArray[np.int64]]:
    """128 bits of each text, shape (rows, 2), and how many bytes it has once normalised."""
    from anneal.curation.domain.kernels.digests import ascii_rows, blake2b, collapse

    octets, bounds = bytes_of(texts)
    hashed = ascii_rows(octets, bounds) if normalize else np.ones(len(texts), dtype=np.uint8)
    if normalize:
        octets, bounds = collapse(octets, bounds)
    digests, sizes = blake2b(octets, bounds, hashed, person), np.diff(bounds)
    if not hashed.all():
        rest = hashed == 0
        octets, bounds = collapse(*bytes_of(_composed(texts.filter(pa.array(rest)))))
        digests[rest] = blake2b(octets, bounds, np.ones(len(bounds) - 1, dtype=np.uint8), person)
        sizes[rest] = np.diff(bounds)
    return digests, sizes


def _composed(texts: pa.Array) -> pa.Array:
    """Texts in NFKC and lower case with no white space outside ASCII; those all in ASCII as they are."""
    if pc.all(pc.string_is_ascii(texts), min_count=0).as_py():
        return texts
    return pc.utf8_lower(pa.array([_plain(text) for text in texts.to_pylist()], pa.large_string()))


def _plain(text: str) -> str:
    """A text in NFKC, and spaces for white space that NFKC leaves alone. Python sees first whether it is so already."""
    text = unicodedata.normalize("NFKC", text)
    for space in _RARE_SPACES:
        if space in text:
            text = text.replace(space, " ")
    return text


def bytes_of(texts: pa.Array) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """The UTF-8 bytes of a `large_string` array in one piece and the bounds of each row, shape (rows + 1,)."""
    _, bounds, data = texts.buffers()
    offsets = np.frombuffer(bounds, dtype=np.int64)[texts.offset : texts.offset + len(texts) + 1]
    if not len(texts) or data is None:
        return np.zeros(0, dtype=np.uint8), np.zeros(len(texts) + 1, dtype=np.int64)
    octets = np.frombuffer(data, dtype=np.uint8)[offsets[0] : offsets[-1]]
    return octets, offsets - offsets[0]


def _from_bytes(octets: NDArray[np.uint8], offsets: NDArray[np.int64]) -> pa.Array:
    bounds = pa.py_buffer(np.ascontiguousarray(offsets, dtype=np.int64))
    return pa.LargeStringArray.from_buffers(len(offsets) - 1, bounds, pa.py_buffer(np.ascontiguousarray(octets)))
