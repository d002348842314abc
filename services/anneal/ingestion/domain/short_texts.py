"""What encoding a few bytes outside ASCII are in, where that can be told at all.

Statistics of letters need text. Of few bytes it can only be asked in which encodings they are all ordinary characters:
where that is one encoding, it is a fair guess; where it is none or several, there is none.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Sequence

_RUN = re.compile(rb"[\x80-\xff]+")
_ORDINARY_SHARE = 0.9
_KANA_SHARE = 0.15
_WESTERN = frozenset("\u201a„…\u2018\u2019“”•\u2013—™€ƒ†‡‰\u2039\u203aŠšŽžŒœŸ")
_MAX_WESTERN_RUN = 2


def guess(data: bytes) -> str | None:
    """The only encoding in which the bytes are ordinary text; None where it is none, or several."""
    fits = [name for name, is_ordinary in _CANDIDATES if _reads(data, name, is_ordinary)]
    if _is_western(data):
        fits.append("cp1252")
    return fits[0] if len(fits) == 1 else None


def _reads(data: bytes, name: str, is_ordinary: Callable[[Sequence[str]], bool]) -> bool:
    try:
        text = data.decode(name)
    except UnicodeDecodeError:
        return False
    wide = [character for character in text if character > "\x7f"]
    return bool(wide) and is_ordinary(wide)


def _share(characters: Sequence[str], is_ordinary: Callable[[str], bool]) -> float:
    return sum(map(is_ordinary, characters)) / len(characters)


def _lead(character: str, encoding: str) -> int:
    """First byte of a character of two; 0 where it has others."""
    try:
        data = character.encode(encoding)
    except UnicodeEncodeError:
        return 0
    return data[0] if len(data) == 2 else 0


def _is_chinese(characters: Sequence[str]) -> bool:
    """Frequent characters are the first 3755 of GB 2312, in its rows 16 to 55."""
    return _share(characters, lambda c: _lead(c, "gb2312") in {0xA1, 0xA3, *range(0xB0, 0xD8)}) >= _ORDINARY_SHARE


def _is_traditional(characters: Sequence[str]) -> bool:
    """Frequent characters are the first 5401 of Big5."""
    return _share(characters, lambda c: 0xA1 <= _lead(c, "big5") <= 0xC6) >= _ORDINARY_SHARE


def _is_korean(characters: Sequence[str]) -> bool:
    return _share(characters, lambda c: _lead(c, "euc_kr") in {0xA1, 0xA3, *range(0xB0, 0xC9)}) >= _ORDINARY_SHARE


def _is_japanese(characters: Sequence[str]) -> bool:
    """No Japanese text is without kana; frequent kanji are those of JIS level 1."""
    kana = _share(characters, lambda c: "\u3041" <= c <= "\u30ff")
    ordinary = _share(characters, lambda c: 0xA1 <= _lead(c, "euc_jp") <= 0xCF)
    return kana >= _KANA_SHARE and ordinary >= _ORDINARY_SHARE


_CANDIDATES: Sequence[tuple[str, Callable[[Sequence[str]], bool]]] = (
    ("gb18030", _is_chinese),
    ("big5hkscs", _is_traditional),
    ("cp949", _is_korean),
    ("euc_jp", _is_japanese),
    ("cp932", _is_japanese),
)


def _is_western(data: bytes) -> bool:
    """Whether each few of the bytes stand between ASCII ones, and are letters or marks of western Europe."""
    runs = [len(run) for run in _RUN.findall(data)]
    if not runs or max(runs) > _MAX_WESTERN_RUN or sum(runs) > 1.5 * len(runs) or sum(runs) > 0.3 * len(data):
        return False
    text = data.decode("cp1252", errors="replace")
    wide = [character for character in text if character > "\x7f"]
    return all(c in _WESTERN or ("\xa0" <= c <= "\xff" and unicodedata.category(c) != "Cc") for c in wide)
