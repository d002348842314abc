"""Takes the earliest of a conversation away until it fits: the system turn and the answer stay."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

Message = Mapping[str, Any]
Made = TypeVar("Made")


def shorter(
    messages: Sequence[Message], fits: Callable[[Sequence[Message]], Made | None]
) -> tuple[list[Message], Made] | None:
    """The conversation with the fewest of its earliest turns taken away that fits.

    Whole turns go first, so that what is left begins with a message of the user. Where even the last question is too
    long, its beginning goes.

    Args:
        messages: up to and with the answer.
        fits: what is made of a conversation; None where that is too long.

    Returns:
        What is left, and what was made of it; None where not even the answer fits.
    """
    head = [m for m in messages[:1] if m["role"] == "system"]
    starts = [i for i in range(len(head), len(messages) - 1) if messages[i]["role"] == "user"]
    for start in starts[1:]:
        some = [*head, *messages[start:]]
        made = fits(some)
        if made is not None:
            return some, made
    if not starts:
        return None
    return _cut(head, messages[starts[-1] :], fits)


def _cut(
    head: Sequence[Message], rest: Sequence[Message], fits: Callable[[Sequence[Message]], Made | None]
) -> tuple[list[Message], Made] | None:
    """The last question without its beginning; found by halving, since fewer characters are never more tokens."""
    question, text = rest[0], rest[0].get("content") or ""
    best: tuple[list[Message], Made] | None = None
    low, high = 1, len(text)
    while low <= high:
        middle = (low + high) // 2
        some = [*head, {**question, "content": text[middle:]}, *rest[1:]]
        made = fits(some)
        if made is None:
            low = middle + 1
        else:
            best, high = (some, made), middle - 1
    return best
