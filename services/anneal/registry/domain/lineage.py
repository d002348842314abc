"""Following lineage, nearest first, whoever holds the edges."""

from __future__ import annotations

from collections.abc import Iterable
from enum import Enum

from anneal.registry.domain.resources import Edge


class Direction(Enum):
    """Which way to follow."""

    UPSTREAM = "what it was made from"
    DOWNSTREAM = "what was made from it"


class Walk:
    """A breadth-first walk over edges that somebody else looks up.

    While `frontier` is not empty, look up the edges that touch its names (ending there when going upstream, starting
    there when going downstream) and hand them to `advance`.

    Attributes:
        frontier: names to look up next.
        edges: every edge found, nearest first, each once.
    """

    def __init__(self, start: str, direction: Direction) -> None:
        self.direction = direction
        self.frontier: list[str] = [start]
        self.edges: list[Edge] = []
        self._seen_names = {start}
        self._seen_edges: set[Edge] = set()

    def advance(self, found: Iterable[Edge]) -> None:
        """Take one step. The order of `found` makes no difference."""
        self.frontier = []
        for edge in sorted(set(found) - self._seen_edges):
            self._seen_edges.add(edge)
            self.edges.append(edge)
            next_name = edge.source if self.direction is Direction.UPSTREAM else edge.made
            if next_name not in self._seen_names:
                self._seen_names.add(next_name)
                self.frontier.append(next_name)
