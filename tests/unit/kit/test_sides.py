"""Work side by side: in order, a few items ahead, and over at the first failure."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator

import pytest

from anneal.kit.sides import side_by_side


def test_results_come_in_the_order_of_the_items() -> None:
    def slow_first(item: int) -> int:
        time.sleep(0.05 if item == 0 else 0)
        return item * item

    assert list(side_by_side(slow_first, range(50), 3)) == [item * item for item in range(50)]
    assert list(side_by_side(slow_first, [], 3)) == []


@pytest.mark.parametrize(("waiting", "ahead"), [(1, 2), (4, 8)])
def test_items_are_taken_when_there_is_room(waiting: int, ahead: int) -> None:
    taken = []

    def items() -> Iterator[int]:
        for item in range(100):
            taken.append(item)
            yield item

    results = side_by_side(lambda item: item, items(), 2, waiting=waiting)
    assert next(results) == 0
    # What waits for a thread, what was handed over, and the one that found no room.
    assert len(taken) == ahead + 1


def test_a_failure_ends_it() -> None:
    done = []
    lock = threading.Lock()

    def work(item: int) -> int:
        if item == 3:
            raise ValueError("row 3 is broken")
        with lock:
            done.append(item)
        return item

    with pytest.raises(ValueError, match="row 3 is broken"):
        list(side_by_side(work, range(1000), 2))
    assert len(done) < 20
