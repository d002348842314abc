"""All cores of this machine: the loops that cost time are Arrow's, NumPy's and numba's, and hold no lock."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, TypeVar

Result = TypeVar("Result")


class Threads:
    """Runs a function on threads; a few items are under way, so that memory stays bounded."""

    def __init__(self, count: int = 0) -> None:
        """Make it.

        Args:
            count: threads; 0 takes one for each core that this process may use.
        """
        self._count = count or len(os.sched_getaffinity(0))

    def map(
        self,
        function: Callable[[Any, Any], Any],
        shared: Any,
        items: Iterable[Any],
        then: Callable[[Any, Any], Result],
    ) -> Iterator[Result]:
        """`then(item, function(shared, item))` for every item, in their order."""

        def work(item: Any) -> Result:
            return then(item, function(shared, item))

        with ThreadPoolExecutor(self._count, thread_name_prefix="curation") as pool:
            under_way: deque[Future[Result]] = deque()
            try:
                for item in items:
                    under_way.append(pool.submit(work, item))
                    if len(under_way) > self._count:
                        yield under_way.popleft().result()
                while under_way:
                    yield under_way.popleft().result()
            finally:
                for future in under_way:
                    future.cancel()
