"""Text made safe to store and compare: one normal form, one line end, no control characters.

`clean` is idempotent, so offsets taken in cleaned text stay true when it is cleaned again.
"""

from __future__ import annotations

import re
import unicodedata

# Unicode category Cc except tab and line feed, the byte order mark, soft hyphen, zero width space, word joiner,
# lone surrogates and the two noncharacters. Joiners (U+200C, U+200D) and direction marks carry meaning and stay.
_UNWANTED = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u00ad\u200b\u2060\ufeff\ud800-\udfff\ufffe\uffff]")
_LINE_ENDS = re.compile("\r\n?|[\u2028\u2029\x85\x0b\x0c]")


def clean(text: str) -> str:
    """Return `text` in NFC, lines ended by a line feed, without control characters."""
    text = _UNWANTED.sub("", _LINE_ENDS.sub("\n", text))
    return unicodedata.normalize("NFC", text)


def clean_document(text: str) -> str:
    """Return a whole file's text cleaned, without white space at line ends and around it."""
    lines = clean(text).split("\n")
    return "\n".join(line.rstrip() for line in lines).strip("\n")
