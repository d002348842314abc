"""Where other people's parsers meet strangers' files."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from anneal.ingestion.domain.errors import UnreadableDocument

_FAULTS: tuple[type[Exception], ...] = (
    ArithmeticError,
    AssertionError,
    AttributeError,
    LookupError,
    RuntimeError,
    SyntaxError,
    TypeError,
    ValueError,
)
"""What code that was written for good files raises on others; a RecursionError is a RuntimeError."""


@contextmanager
def reading_with(library: str, *own: type[Exception]) -> Iterator[None]:
    """Turn what a library raises on a file, its own errors included, into one error.

    Raises:
        UnreadableDocument: it gave up.
    """
    faults = _FAULTS + own
    try:
        yield
    except UnreadableDocument:
        raise
    except faults as error:
        raise UnreadableDocument(f"{library}: {type(error).__name__}: {error}") from error
