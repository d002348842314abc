"""Work side by side on the cores of this machine."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

WAITING = 4
"""Items taken for each thread: enough that none stands still while the oldest result is waited for."""
Item = TypeVar("Item")
Result = TypeVar("Result")


def side_by_side(
    work: Callable[[Item], Result], items: Iterable[Item], threads: int = 0, *, waiting: int = WAITING
) -> Iterator[Result]:
    """The results in the order of the items, of which a few wait for a thread or behind a slower one before them.

    Threads help where `work` spends its time in Arrow, NumPy or a kernel, which hold no lock.

    Args:
        work: called with one item.
        items: taken when there is room for more.
        threads: 0 takes one for each core that this process may use.
        waiting: items taken for each thread; 1 where items or results are large.
    """
    count = threads or len(os.sched_getaffinity(0))
    with ThreadPoolExecutor(count, thread_name_prefix="curation") as pool:
        under_way: deque[Future[Result]] = deque()
        try:
            for item in items:
                if len(under_way) == waiting * count:
                    yield under_way.popleft().result()
                under_way.append(pool.submit(work, item))
            while under_way:
                yield under_way.popleft().result()
        finally:
            for future in under_way:
                future.cancel()
