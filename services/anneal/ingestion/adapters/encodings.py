"""Bytes to text, with the way the encoding was found kept beside it.

Order: byte order mark, strict UTF-8, the charset the file declares, and only then a guess: charset-normalizer
took a 24-byte cp1252 text for cp1250, so a guess is never first and always recorded. Bytes are never replaced: text
that says it is Unicode and is not, or that is Unicode but for a few bytes, is refused with the place.
"""

from __future__ import annotations

import codecs
import contextlib
import re
from dataclasses import dataclass
from typing import Literal

from charset_normalizer import from_bytes

from anneal.ingestion.adapters.libraries import reading_with
from anneal.ingestion.domain.errors import UndecodableText

Evidence = Literal["bom", "utf-8", "declared", "guessed"]

# UTF-32's mark begins with UTF-16's, so it is asked first.
_MARKS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)

# A guess needs no more than this to settle, and its time grows with the length.
_GUESS_BYTES = 1 << 18
_WIDE = re.compile("[^\x00-\x7f]")


@dataclass(frozen=True, slots=True)
class Decoded:
    """Text and how it was read.

    Attributes:
        evidence: what told the encoding.
    """

    text: str
    encoding: str
    evidence: Evidence


def decode(data: bytes, declared: str | None = None) -> Decoded:
    """Decode `data`; `declared` is the charset its header or markup claims, if any.

    Raises:
        UndecodableText: no encoding fits, or bytes that claim to be Unicode are not.
        UnreadableDocument: guessing failed.
    """
    for mark, name in _MARKS:
        if data.startswith(mark):
            return Decoded(_strictly(data, name), name, "bom")
    try:
        return Decoded(data.decode("utf-8"), "utf-8", "utf-8")
    except UnicodeDecodeError as error:
        bad_byte = error.start
    named = _codec_of(declared)
    if named == "utf-8":
        return Decoded(_strictly(data, named), named, "declared")
    if named is not None:
        with contextlib.suppress(UnicodeError, LookupError):
            return Decoded(data.decode(named), named, "declared")
    if _is_nearly_utf8(data):
        return Decoded(_strictly(data, "utf-8"), "utf-8", "guessed")
    with reading_with("charset-normalizer"):
        guess = from_bytes(data[:_GUESS_BYTES]).best()
    if guess is not None:
        with contextlib.suppress(UnicodeError):
            return Decoded(data.decode(guess.encoding), guess.encoding, "guessed")
    raise UndecodableText(f"byte {bad_byte} is not UTF-8, and no other encoding fits", byte_offset=bad_byte)


def _strictly(data: bytes, name: str) -> str:
    """Decode or name the bad byte; Python's `utf-8-sig` counts it without the mark, so the mark is cut off here."""
    name = name.removesuffix("-sig")
    try:
        return data.decode(name).removeprefix("\ufeff")
    except UnicodeDecodeError as error:
        cause = f"byte {error.start} is not {name}: {error.reason}"
        raise UndecodableText(cause, byte_offset=error.start) from error


def _is_nearly_utf8(data: bytes) -> bool:
    """Whether more characters outside ASCII are good UTF-8 than are not; by chance that does not happen."""
    text = data.decode("utf-8", errors="replace")
    bad = text.count("\ufffd")
    return sum(1 for _ in _WIDE.finditer(text)) > 2 * bad


def _codec_of(declared: str | None) -> str | None:
    """The name of a text encoding under which Python knows it; None for what is none."""
    try:
        return codecs.lookup(declared).name if declared else None
    except LookupError:
        return None
