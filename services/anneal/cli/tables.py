"""Lists as text: an aligned table on a terminal, one record a line with tabs everywhere else."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from rich.cells import cell_len, set_cell_size

GAP = 2
MIN_WIDTH = 8
"""Narrowest that a column is shortened to, its header aside; a column that is still too wide is left out."""


def records(rows: Sequence[Sequence[str]]) -> Iterator[str]:
    """One line a row: whole cells with tabs between them. White space in a cell becomes a space."""
    for row in rows:
        yield "\t".join(" ".join(cell.split()) for cell in row)


def aligned(
    columns: Sequence[str], rows: Sequence[Sequence[str]], width: int, shorten: Sequence[str] = ()
) -> Iterator[str]:
    """A table of at most `width` cells a line, header first.

    Where it is too wide, columns are shortened, and then left out, in the order of `shorten`. The others stay whole,
    even where lines then are longer than `width`: a terminal breaks them, and they can still be copied. A last line
    names the columns that were left out.

    Args:
        columns: headers.
        rows: cells, in the order of the headers.
        width: cells in a line of the terminal.
        shorten: columns that may be shortened or left out, the least telling one first.
    """
    cells = [[" ".join(cell.split()) for cell in row] for row in (columns, *rows)]
    widths = {column: max(cell_len(row[number]) for row in cells) for number, column in enumerate(columns)}
    _shrink(widths, width, shorten)
    absent = _drop(widths, width, shorten)
    for row in cells:
        parts = [_fitted(cell, widths[column]) for column, cell in zip(columns, row, strict=True) if column in widths]
        yield (" " * GAP).join(parts).rstrip()
    if absent:
        yield f"({width} columns are too few for: {', '.join(absent)}; --json has them)"


def _total(widths: dict[str, int]) -> int:
    return sum(widths.values()) + GAP * (len(widths) - 1)


def _shrink(widths: dict[str, int], width: int, shorten: Sequence[str]) -> None:
    for column in shorten:
        excess = _total(widths) - width
        if excess > 0:
            least = min(widths[column], max(MIN_WIDTH, cell_len(column)))
            widths[column] = max(least, widths[column] - excess)


def _drop(widths: dict[str, int], width: int, shorten: Sequence[str]) -> list[str]:
    absent = []
    for column in shorten:
        if _total(widths) > width:
            absent.append(column)
            del widths[column]
    return absent


def _fitted(cell: str, width: int) -> str:
    return set_cell_size(cell, width) if cell_len(cell) <= width else f"{set_cell_size(cell, width - 1)}…"
