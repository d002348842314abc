"""The items of a JSON list, found by their brackets in a stream: one in memory at a time, and never a too long one."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO

_READ = 1 << 20
_KEEP = 4 << 10
_MARK = b"\xef\xbb\xbf"
_OUTSIDE = re.compile(rb'["\[\]{},]')
_INSIDE = re.compile(rb'["\\]')
_SPACE = b" \t\r\n"
_QUOTE, _BACKSLASH, _COMMA = b'"\\,'


@dataclass(frozen=True, slots=True)
class Item:
    """The bytes of one item.

    Attributes:
        byte_offset: where its first byte stands.
        line: number of the line it begins in, from 1.
        data: all of it, or its beginning.
        is_whole: false for an item beyond the limit, of which only the beginning was kept.
        is_closed: false for what stands where the list's end is missing, or behind the end.
    """

    byte_offset: int
    line: int
    data: bytes
    is_whole: bool = True
    is_closed: bool = True


def items(file: BinaryIO, limit: int, begin: int | None = None) -> Iterator[Item]:
    """The items of the outermost list in their order; the whole text where it is no list.

    Args:
        file: where its bytes are.
        limit: most bytes of an item that are kept; of a longer one only the beginning is.
        begin: where the list begins, if it stands inside something; what follows it is an item that is not closed.
    """
    file.seek(0)
    scan = _Scan(limit)
    if begin is not None:
        scan.skip(file.read(begin))
    while data := file.read(_READ):
        yield from scan.feed(data)
    yield from scan.end()


class _Scan:
    """Where the scan is: how deep, inside a string or not, and what the current item holds so far."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._offset, self._line = 0, 1
        self._is_list: bool | None = None
        self._ended = False
        self._depth = 0
        self._in_string = self._escaped = False
        self._begin: tuple[int, int] | None = None
        self._held = bytearray()
        self._too_long = False

    def skip(self, data: bytes) -> None:
        """Pass over what stands before the list."""
        self._skip(data, 0, len(data))

    def feed(self, data: bytes) -> Iterator[Item]:
        """Go on by some bytes."""
        at = 0
        if self._offset == 0 and data.startswith(_MARK):
            at = self._skip(data, 0, len(_MARK))
        if self._is_list is None:
            begin = len(data) - len(data[at:].lstrip(_SPACE))
            at = self._skip(data, at, begin)
            if at == len(data):
                return
            self._is_list = data[at : at + 1] == b"["
            if self._is_list:
                at = self._skip(data, at, at + 1)
        while at < len(data):
            if not self._is_list or self._ended:
                at = self._take(data, at, len(data))
            elif self._in_string:
                at = self._string(data, at)
            else:
                found = _OUTSIDE.search(data, at)
                at = self._take(data, at, found.start() if found else len(data))
                if found:
                    yield from self._mark(data, at)
                    at += 1

    def end(self) -> Iterator[Item]:
        """What is left when the stream ends."""
        if self._is_list and not self._ended and self._begin is None:
            yield Item(self._offset, self._line, b"", is_closed=False)
        yield from self._item(is_closed=not self._is_list)

    def _string(self, data: bytes, at: int) -> int:
        if self._escaped:
            self._escaped = False
            return self._take(data, at, at + 1)
        found = _INSIDE.search(data, at)
        end = self._take(data, at, found.end() if found else len(data))
        if found and data[found.start()] == _QUOTE:
            self._in_string = False
        elif found:
            self._escaped = True
        return end

    def _mark(self, data: bytes, at: int) -> Iterator[Item]:
        """One bracket, comma or quote outside a string."""
        byte = data[at]
        if self._depth == 0 and byte in b",]":
            yield from self._item()
            self._skip(data, at, at + 1)
            self._ended = byte != _COMMA
            return
        self._take(data, at, at + 1)
        if byte == _QUOTE:
            self._in_string = True
        elif byte in b"[{":
            self._depth += 1
        elif byte != _COMMA:  # one bracket too many spoils its item only
            self._depth = max(0, self._depth - 1)

    def _take(self, data: bytes, at: int, end: int) -> int:
        """Let bytes belong to the current item; white space before it belongs to nothing."""
        if self._begin is None:
            begin = end - len(data[at:end].lstrip(_SPACE))
            at = self._skip(data, at, begin)
            if at == end:
                return end
            self._begin = self._offset, self._line
        if not self._too_long:
            self._held += data[at:end]
            self._too_long = len(self._held) > self._limit
            if self._too_long:
                del self._held[_KEEP:]
        return self._skip(data, at, end)

    def _skip(self, data: bytes, at: int, end: int) -> int:
        self._offset += end - at
        self._line += data.count(b"\n", at, end)
        return end

    def _item(self, *, is_closed: bool = True) -> Iterator[Item]:
        if self._begin is not None:
            yield Item(*self._begin, bytes(self._held).rstrip(_SPACE), not self._too_long, is_closed)
        self._begin, self._too_long = None, False
        self._held = bytearray()
