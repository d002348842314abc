"""Bytes to text, with the way the encoding was found kept beside it.

Order: byte order mark, strict UTF-8, the charset the file declares, and only then a guess: charset-normalizer
took a 24-byte cp1252 text for cp1250, and seven characters of GBK for Korean, so a guess is never first and always
recorded, and few bytes are asked in which encoding they are ordinary text (`domain.short_texts`), or refused. Labels
mean what the WHATWG's Encoding Standard says, as in every browser: `iso-8859-1` is windows-1252. Bytes are never
replaced: text that says it is Unicode and is not, or that is Unicode but for a few bytes, is refused with the place.
"""

from __future__ import annotations

import codecs
import contextlib
import re
from dataclasses import dataclass
from typing import Literal

from charset_normalizer import from_bytes

from anneal.ingestion.adapters.libraries import reading_with
from anneal.ingestion.domain import short_texts
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
_HIGH = re.compile(rb"[\x80-\xff]")
_FEW = 128
"""Bytes outside ASCII below which statistics guess badly."""

# https://encoding.spec.whatwg.org/#names-and-labels, where Python means something narrower by the codec ...
_WIDER = {
    "ascii": "cp1252", "iso8859-1": "cp1252", "iso8859-9": "cp1254", "iso8859-11": "cp874", "tis-620": "cp874",
    "gb2312": "gb18030", "gbk": "gb18030", "shift_jis": "cp932", "euc_kr": "cp949", "big5": "big5hkscs",
    "utf-16": "utf-8", "utf-16-le": "utf-8", "utf-16-be": "utf-8", "utf-32": "utf-8", "utf-7": "",
}  # fmt: skip
# ... and where it does not know the label.
_LABELS = {
    "chinese": "gb18030", "csiso58gb231280": "gb18030", "gb_2312": "gb18030", "gb_2312-80": "gb18030",
    "iso-ir-58": "gb18030", "x-gbk": "gb18030", "cn-big5": "big5hkscs", "x-x-big5": "big5hkscs",
    "ms_kanji": "cp932", "windows-31j": "cp932", "x-sjis": "cp932", "x-euc-jp": "euc_jp",
    "cseuckr": "cp949", "csksc56011987": "cp949", "iso-ir-149": "cp949", "korean": "cp949", "windows-949": "cp949",
    "ks_c_5601-1987": "cp949", "ks_c_5601-1989": "cp949", "ksc5601": "cp949", "ksc_5601": "cp949",
    "x-cp1250": "cp1250", "x-cp1251": "cp1251", "x-cp1252": "cp1252", "dos-874": "cp874", "windows-874": "cp874",
    "macintosh": "mac_roman", "x-mac-roman": "mac_roman", "x-mac-cyrillic": "mac_cyrillic", "koi": "koi8_r",
    "koi8": "koi8_r", "unicode-1-1-utf-8": "utf-8", "x-unicode20utf8": "utf-8", "logical": "iso8859-8",
    "visual": "iso8859-8", "sun_eu_greek": "iso8859-7",
}  # fmt: skip


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
            errors = _C1 if named == "cp1252" else "strict"
            return Decoded(data.decode(named, errors), named, "declared")
    if _is_nearly_utf8(data):
        return Decoded(_strictly(data, "utf-8"), "utf-8", "guessed")
    few = len(_HIGH.findall(data[:_GUESS_BYTES]))
    if few < _FEW:
        return _guess_of_few(data, few, bad_byte)
    with reading_with("charset-normalizer"):
        guess = from_bytes(data[:_GUESS_BYTES]).best()
    if guess is not None:
        with contextlib.suppress(UnicodeError):
            return Decoded(data.decode(guess.encoding), guess.encoding, "guessed")
    raise UndecodableText(f"byte {bad_byte} is not UTF-8, and no other encoding fits", byte_offset=bad_byte)


def _guess_of_few(data: bytes, few: int, bad_byte: int) -> Decoded:
    name = short_texts.guess(data)
    if name is not None:
        with contextlib.suppress(UnicodeError):
            return Decoded(data.decode(name), name, "guessed")
    raise UndecodableText(
        f"byte {bad_byte} is not UTF-8, and {few} bytes outside ASCII are too few to tell another encoding; save the "
        "file as UTF-8",
        byte_offset=bad_byte,
    )


def _c1(error: UnicodeError) -> tuple[str, int]:
    """The five bytes that windows-1252 leaves open are control characters to every browser."""
    if not isinstance(error, UnicodeDecodeError):
        raise error
    return error.object[error.start : error.end].decode("latin-1"), error.end


_C1 = "anneal-c1"
codecs.register_error(_C1, _c1)


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
    """The codec that a label means to a browser; None for what is no encoding of text."""
    if not declared:
        return None
    label = declared.strip().lower()
    try:
        name = codecs.lookup(_LABELS.get(label, label)).name
    except LookupError:
        return None
    return _WIDER.get(name, name) or None
