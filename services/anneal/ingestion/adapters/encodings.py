"""Bytes to text, with the way the encoding was found kept beside it.

Order: byte order mark, strict UTF-8, the charset the file declares, and only then a guess: charset-normalizer
took a 24-byte cp1252 text for cp1250, so a guess is never first and always recorded.
"""

from __future__ import annotations

import codecs
import contextlib
from dataclasses import dataclass
from typing import Literal

from charset_normalizer import from_bytes

Evidence = Literal["bom", "utf-8", "declared", "guessed", "replaced"]

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


@dataclass(frozen=True, slots=True)
class Decoded:
    """Text and how it was read.

    Attributes:
        evidence: "bom", "utf-8", "declared", "guessed", or "replaced" where no encoding fitted and bytes that are
            not UTF-8 became U+FFFD.
    """

    text: str
    encoding: str
    evidence: Evidence


def decode(data: bytes, declared: str | None = None) -> Decoded:
    """Decode `data`; `declared` is the charset its header or markup claims, if any."""
    for mark, name in _MARKS:
        if data.startswith(mark):
            with contextlib.suppress(UnicodeDecodeError):
                return Decoded(data.decode(name), name, "bom")
    with contextlib.suppress(UnicodeDecodeError):
        return Decoded(data.decode("utf-8"), "utf-8", "utf-8")
    if declared is not None:
        with contextlib.suppress(UnicodeDecodeError, LookupError):
            return Decoded(data.decode(declared), codecs.lookup(declared).name, "declared")
    guess = from_bytes(data[:_GUESS_BYTES]).best()
    if guess is not None:
        with contextlib.suppress(UnicodeDecodeError):
            return Decoded(data.decode(guess.encoding), guess.encoding, "guessed")
    return Decoded(data.decode("utf-8", errors="replace"), "utf-8", "replaced")
