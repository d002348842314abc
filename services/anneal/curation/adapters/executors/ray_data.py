"""A Ray cluster, by Ray Data: pieces are its rows, and what is found in them comes back in their order."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from pickle import dumps, loads
from typing import Any, TypeVar

from anneal.kit.errors import NotYet

Result = TypeVar("Result")


class RayMissing(NotYet):
    """Ray is not installed here."""

    reason = "RAY_MISSING"


class RayData:
    """Runs a function as tasks of Ray Data, which streams: a bounded number of results waits at any time."""

    def __init__(self, address: str = "") -> None:
        """Connect.

        Args:
            address: of the cluster; empty takes the one that this process belongs to, or starts one on this machine.

        Raises:
            RayMissing: it is not installed.
        """
        try:
            import ray
            import ray.data
        except ImportError as error:
            raise RayMissing(
                f"curation was told to run on Ray, which is not installed here ({error}): install "
                "anneal[curation-ray], or set ANNEAL_CURATION__EXECUTOR=threads"
            ) from None
        self._ray = ray
        if not ray.is_initialized():
            ray.init(address=address or None, log_to_driver=False, include_dashboard=False)

    def map(
        self,
        function: Callable[[Any, Any], Any],
        shared: Any,
        items: Iterable[Any],
        then: Callable[[Any, Any], Result],
    ) -> Iterator[Result]:
        """`then(item, function(shared, item))` for every item, in their order; `then` runs here."""
        items = list(items)
        if not items:
            return
        ray = self._ray
        context = ray.data.DataContext.get_current()
        context.execution_options.preserve_order = True
        context.enable_progress_bars = False
        told = ray.put((function, shared))
        rows = ray.data.from_items(
            [{"number": number, "item": dumps(item)} for number, item in enumerate(items)],
            override_num_blocks=len(items),
        )
        done = rows.map(_run, fn_kwargs={"told": told})
        for number, row in enumerate(done.iter_rows()):
            assert row["number"] == number
            yield then(items[number], loads(row["result"]))


def _run(row: dict[str, Any], told: Any) -> dict[str, Any]:
    import ray

    function, shared = ray.get(told)
    return {"number": row["number"], "result": dumps(function(shared, loads(row["item"])))}
