"""The texts of a batch: which part of a row a step looks at, and how texts are made comparable."""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Iterator, Sequence
from typing import Literal, get_args

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from anneal.kit.digests import canonical_json
from anneal.kit.messages import OPTIONAL_FIELDS, Message, plain_message, said
from anneal.kit.records import MESSAGE_COLUMNS, MESSAGES

Part = Literal["prompt", "answer", "conversation"]
PARTS: tuple[Part, ...] = get_args(Part)

COLUMNS = ("text", *MESSAGE_COLUMNS)
"""Where texts stand: of documents, of conversations, and of preferences."""
ASSISTANT = "assistant"

# White space that NFKC leaves alone and that is not ASCII: next line, ogham space, line and paragraph separator.
_RARE_SPACES = ("\u0085", "\u1680", "\u2028", "\u2029")
# Personalisations of BLAKE2b, so that a part never equals a whole.
_PART, _WHOLE = (np.uint64(int.from_bytes(person, "little")) for person in (b"part", b"whole"))
# The bytes of ASCII white space, as Python's `str.isspace` has it.
IS_SPACE = np.zeros(256, dtype=bool)
IS_SPACE[[9, 10, 11, 12, 13, 28, 29, 30, 31, 32]] = True


class Messages:
    """The messages of a batch, flattened: one array per field and the bounds of each row.

    Of a preference they are those of the prompt, then those of the chosen and of the rejected answer.
    """

    def __init__(self, batch: pa.RecordBatch) -> None:
        self._batch = batch
        columns = [batch.column(name) for name in MESSAGE_COLUMNS if name in batch.schema.names]
        counts = [_lengths(column) for column in columns]
        self.lengths: NDArray[np.int64] = np.sum(counts, axis=0)
        self.offsets: NDArray[np.int64] = np.concatenate(([0], np.cumsum(self.lengths)))
        self._flat = columns[0].flatten()
        self.sides: NDArray[np.int8] = np.zeros(len(self._flat), dtype=np.int8)
        if len(columns) > 1:
            rows = np.concatenate([np.repeat(np.arange(batch.num_rows), count) for count in counts])
            sides = np.repeat(np.arange(len(columns), dtype=np.int8), [count.sum() for count in counts])
            order = np.lexsort((sides, rows))
            self._flat = pa.concat_arrays([column.flatten() for column in columns]).take(pa.array(order))
            self.sides = sides[order]
        self.roles: pa.Array = pc.fill_null(pc.struct_field(self._flat, "role"), "")
        self.contents: pa.Array = self._with_more(said, ("reasoning", "tool_calls"))

    def whole(self) -> pa.Array:
        """One text per message that tells whole messages apart, as a `large_string` array without nulls."""
        return self._with_more(_told, OPTIONAL_FIELDS)

    def with_names(self) -> pa.Array:
        """What each message says, and behind it the name of who says it."""
        return self._with_more(
            lambda turn: "\n".join(text for text in (said(turn), turn.get("name")) if text),
            ("reasoning", "tool_calls", "name"),
        )

    def _with_more(self, told: Callable[[Message], str], fields: Sequence[str]) -> pa.Array:
        """The content of each message; of those with one of some fields, few as they often are, what `told` says."""
        contents = pc.fill_null(pc.struct_field(self._flat, "content"), "").cast(pa.large_string())
        known = [name for name in fields if self._flat.type.get_field_index(name) >= 0]
        has_more = np.zeros(len(self._flat), dtype=bool)
        for name in known:
            has_more |= pc.is_valid(pc.struct_field(self._flat, name)).to_numpy(zero_copy_only=False)
        if not has_more.any():
            return contents
        texts = [told(turn) for turn in self._flat.filter(pa.array(has_more)).to_pylist()]
        return pc.replace_with_mask(contents, pa.array(has_more), pa.array(texts, pa.large_string()))

    @property
    def answered(self) -> NDArray[np.bool_]:
        """Rows whose last message is the assistant's, shape (rows,)."""
        is_assistant = pc.equal(self.roles, ASSISTANT).to_numpy(zero_copy_only=False)
        answered = np.zeros(len(self.lengths), dtype=bool)
        filled = self.lengths > 0
        answered[filled] = is_assistant[self.offsets[1:][filled] - 1]
        return answered

    @property
    def is_answer(self) -> NDArray[np.bool_]:
        """Messages that are an answer: the last one of the assistant's; of a preference all after the prompt."""
        if is_preference(self._batch):
            found: NDArray[np.bool_] = self.sides > 0
            return found
        is_answer = np.zeros(len(self._flat), dtype=bool)
        is_answer[self.offsets[1:][self.answered] - 1] = True
        return is_answer


def _lengths(column: pa.Array) -> NDArray[np.int64]:
    lengths: NDArray[np.int32] = pc.fill_null(pc.list_value_length(column), 0).to_numpy(zero_copy_only=False)
    return lengths.astype(np.int64)


def _told(turn: Message) -> str:
    """A message as one text, with all that it has; marks keep its fields apart from its content."""
    turn = plain_message(turn)
    more = {name: turn[name] for name in OPTIONAL_FIELDS if name in turn}
    return f"{turn['content'] or ''}\x04{canonical_json(more).decode()}" if more else turn["content"] or ""


def is_conversation(batch: pa.RecordBatch) -> bool:
    """True for a batch of conversations or preferences, whose rows have messages; false for a batch of documents."""
    return "messages" in batch.schema.names


def is_preference(batch: pa.RecordBatch) -> bool:
    """True for a batch of preferences."""
    return "chosen" in batch.schema.names


def conversations_of(batch: pa.RecordBatch) -> Iterator[tuple[str, pa.RecordBatch, NDArray[np.int64]]]:
    """Preferences as the conversations they tell of: for each side those rows that have it, and which they are."""
    prompts = batch.column("messages")
    for side in ("chosen", "rejected"):
        answers = batch.column(side)
        rows = np.flatnonzero(_lengths(answers) > 0)
        some = batch.take(pa.array(rows))
        counts = [_lengths(prompts)[rows], _lengths(answers)[rows]]
        flat = pa.concat_arrays([some.column(name).flatten() for name in ("messages", side)])
        owners = np.concatenate([np.repeat(np.arange(len(rows)), count) for count in counts])
        turns = flat.take(pa.array(np.argsort(owners, kind="stable")))
        offsets = np.concatenate(([0], np.cumsum(counts[0] + counts[1])))
        lists = pa.ListArray.from_arrays(pa.array(offsets, pa.int32()), turns, type=MESSAGES)
        some = some.set_column(some.schema.get_field_index("messages"), "messages", lists)
        yield side, some.drop_columns(["chosen", "rejected"]), rows


def text_of(batch: pa.RecordBatch, part: Part) -> pa.Array:
    """One text per row, as a `large_string` array without nulls.

    A document has one text, whatever the part. Of a conversation the answer is the last message if the assistant
    wrote it (else empty), the prompt is everything before the answer, the conversation is all; of a preference the
    answer is both its sides. Messages are joined by a line feed, and say their reasoning, content and calls.
    """
    if not is_conversation(batch):
        return pc.fill_null(batch.column("text"), "").cast(pa.large_string())
    messages = Messages(batch)
    if part == "conversation":
        return joined(messages.contents, messages.offsets)
    if part == "answer" and not is_preference(batch):
        places = pa.array(messages.offsets[1:] - 1, mask=~messages.answered)
        return pc.fill_null(messages.contents.take(places), "")
    wanted = messages.is_answer if part == "answer" else ~messages.is_answer
    bounds = np.concatenate(([0], np.cumsum(wanted)))[messages.offsets]
    return joined(messages.contents.filter(pa.array(wanted)), bounds)


def turns_of(batch: pa.RecordBatch, part: Part, *, names: bool = False) -> tuple[pa.Array, NDArray[np.int64]]:
    """The messages of a part, not joined (a `large_string` array without nulls), and the row of each, ascending.

    Args:
        batch: rows of one kind.
        part: which messages.
        names: put the name of who says a message behind it.
    """
    if not is_conversation(batch):
        return text_of(batch, part), np.arange(batch.num_rows)
    messages = Messages(batch)
    contents = messages.with_names() if names else messages.contents
    rows = np.repeat(np.arange(batch.num_rows), messages.lengths)
    if part == "conversation":
        return contents, rows
    wanted = messages.is_answer if part == "answer" else ~messages.is_answer
    return contents.filter(pa.array(wanted)), rows[wanted]


def whole_of(batch: pa.RecordBatch) -> pa.Array:
    """One text per row that tells whole rows apart: messages with all they have, or the document's text."""
    if not is_conversation(batch):
        return text_of(batch, "conversation")
    messages = Messages(batch)
    mark, roles = pa.scalar("\x02", pa.large_string()), messages.roles.cast(pa.large_string())
    if is_preference(batch):
        sides = pa.array(["", "\x05", "\x06"], pa.large_string()).take(pa.array(messages.sides))
        roles = pc.binary_join_element_wise(sides, roles, pa.scalar("", pa.large_string()))
    named = pc.binary_join_element_wise(roles, messages.whole(), mark)
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
