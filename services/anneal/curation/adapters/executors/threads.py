"""All cores of this machine: the loops that cost time are Arrow's, NumPy's and numba's, and hold no lock."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any, TypeVar

from anneal.kit.sides import side_by_side

Result = TypeVar("Result")


class Threads:
    """Runs a function on threads; a few items are under way, so that memory stays bounded."""

    def __init__(self, count: int = 0) -> None:
        """Make it.

        Args:
            count: threads; 0 takes one for each core that this process may use.
        """
        self._count = count

    def map(
        self,
        function: Callable[[Any, Any], Any],
        shared: Any,
        items: Iterable[Any],
        then: Callable[[Any, Any], Result],
    ) -> Iterator[Result]:
        """`then(item, function(shared, item))` for every item, in their order."""
        return side_by_side(lambda item: then(item, function(shared, item)), items, self._count)
