from __future__ import annotations

from collections.abc import Iterable

from hypothesis import given
from hypothesis import strategies as st

from anneal.registry.domain.lineage import Direction, Walk
from anneal.registry.domain.resources import Edge, Relation

DERIVED = Relation.DERIVED_FROM


def edge(source: str, made: str) -> Edge:
    return Edge(source, made, DERIVED)


def walk(start: str, direction: Direction, edges: Iterable[Edge]) -> list[Edge]:
    held = list(edges)
    steps = Walk(start, direction)
    while steps.frontier:
        names = set(steps.frontier)
        steps.advance(e for e in held if (e.made if direction is Direction.UPSTREAM else e.source) in names)
    return steps.edges


CHAIN = [edge("documents", "rows"), edge("rows", "curated"), edge("curated", "adapter"), edge("other", "else")]


def test_upstream_is_what_it_was_made_from_nearest_first() -> None:
    assert walk("adapter", Direction.UPSTREAM, CHAIN) == [CHAIN[2], CHAIN[1], CHAIN[0]]


def test_downstream_is_what_was_made_from_it_nearest_first() -> None:
    assert walk("documents", Direction.DOWNSTREAM, CHAIN) == CHAIN[:3]


def test_nothing_is_reached_from_an_end() -> None:
    assert walk("documents", Direction.UPSTREAM, CHAIN) == []


def test_a_diamond_is_walked_once() -> None:
    diamond = [edge("a", "b"), edge("a", "c"), edge("b", "d"), edge("c", "d")]
    assert walk("d", Direction.UPSTREAM, diamond) == [diamond[2], diamond[3], diamond[0], diamond[1]]


def test_two_relations_between_the_same_two_are_two_edges() -> None:
    both = [Edge("a", "b", Relation.BASED_ON), Edge("a", "b", Relation.TRAINED_ON)]
    assert walk("b", Direction.UPSTREAM, both) == both


@given(st.sets(st.tuples(st.integers(0, 8), st.integers(0, 8)), max_size=30))
def test_any_graph_ends_and_both_ways_agree(pairs: set[tuple[int, int]]) -> None:
    edges = [edge(str(a), str(b)) for a, b in pairs]
    for end in range(9):
        reached = {e.source for e in walk(str(end), Direction.UPSTREAM, edges)}
        for start in reached:
            assert any(e.made == str(end) for e in walk(start, Direction.DOWNSTREAM, edges))
