"""Lines of a file with their places, never more of one in memory than a limit."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO

BOM = b"\xef\xbb\xbf"
KEEP = 4 << 10


@dataclass(frozen=True, slots=True)
class Line:
    """One line.

    Attributes:
        byte_offset: where it begins; the mark at the beginning of a file belongs to no line.
        line: its number, from 1.
        data: its bytes with the line feed, or the beginning of a line beyond the limit.
        is_whole: false where only the beginning was kept.
    """

    byte_offset: int
    line: int
    data: bytes
    is_whole: bool


def lines(file: BinaryIO, limit: int) -> Iterator[Line]:
    """The lines of a file.

    Args:
        file: open at its first byte.
        limit: most bytes of a line, its line feed not counted.
    """
    offset = len(BOM) if file.read(len(BOM)) == BOM else 0
    file.seek(offset)
    number = 0
    while data := file.readline(limit + 1):
        number += 1
        start = offset
        offset += len(data)
        is_whole = len(data) <= limit or data.endswith(b"\n")
        ended = is_whole
        while not ended and (rest := file.readline(limit + 1)):
            offset += len(rest)
            ended = rest.endswith(b"\n")
        yield Line(start, number, data if is_whole else data[:KEEP], is_whole)
