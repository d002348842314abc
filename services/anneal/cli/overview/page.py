"""The page of an overview: one self-contained HTML file with its plots inside."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import vl_convert
from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape

from anneal.cli.overview.charts import charts, percent
from anneal.cli.overview.text import facts_of, name_of
from anneal.cli.report.charts import BLUE, GREEN, GREY, ORANGE, SKY, VERMILION
from anneal.v1 import curation_service_pb2 as pb

WIDTH, HEIGHT, MARGIN = 1040, 640, 26
PALETTE = (BLUE, VERMILION, GREEN, ORANGE, SKY, "#CC79A7", GREY, "#8A6D00")
BADGE = 26.0
"""Least distance of two topics' numbers on the map, in pixels."""
REACH = 40.0
"""Points within so many pixels are neighbours."""

_ALT = {
    "funnel": "Rows that came in, rows that left by reason, rows kept by split",
    "lengths": "Histograms of lengths; each bin is twice as wide as the one before it",
    "shares": "Rows by form of their text, by language and by source",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Badge:
    """The number of a topic on the map."""

    number: int
    x: float
    y: float
    colour: str


def write(overview: pb.DatasetOverview, page: Path) -> None:
    """Write the page; it asks for nothing over the network."""
    images = {name: vl_convert.vegalite_to_svg(chart.to_json()) for name, chart in charts(overview).items()}
    page.parent.mkdir(parents=True, exist_ok=True)
    page.write_text(render(overview, images), encoding="utf-8")


def render(overview: pb.DatasetOverview, images: dict[str, str]) -> str:
    """The page's HTML. `images` are the plots as SVG text, by name."""
    environment = Environment(
        loader=PackageLoader("anneal.cli.overview", "templates"),
        autoescape=select_autoescape(default=True, default_for_string=True),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    sample = overview.sample
    plots = {
        name: {"uri": "data:image/svg+xml;base64," + base64.b64encode(svg.encode()).decode(), "alt": _ALT[name]}
        for name, svg in images.items()
    }
    return environment.get_template("overview.html").render(
        overview=overview,
        facts=facts_of(overview),
        plots=plots,
        topics=list(enumerate(sample.topics)),
        colours=[PALETTE[number % len(PALETTE)] for number in range(len(sample.topics))],
        points=[(*place(point.x, point.y), point) for point in sample.points],
        badges=badges(sample.points),
        size=(WIDTH, HEIGHT),
        name_of=name_of,
        percent=percent,
        all_seen=sample.row_count == overview.row_count,
    )


def place(x: float, y: float) -> tuple[float, float]:
    """Where on the map, in pixels."""
    return round(MARGIN + x * (WIDTH - 2 * MARGIN), 1), round(MARGIN + y * (HEIGHT - 2 * MARGIN), 1)


def badges(points: Sequence[pb.MapPoint]) -> list[Badge]:
    """The number of each topic where its points are densest, moved until none covers another."""
    members: dict[int, list[tuple[float, float]]] = {}
    for point in points:
        members.setdefault(point.topic, []).append(place(point.x, point.y))
    placed: list[Badge] = []
    for topic in sorted(members):
        # Where its points are densest, not the space between two heaps of them.
        crowded = sorted(members[topic], key=lambda spot: (-_neighbours(spot, members[topic]), spot))
        free = (spot for spot in crowded if all(_gap(spot, (one.x, one.y)) >= BADGE for one in placed))
        x, y = next(free, crowded[0])
        placed.append(Badge(number=topic + 1, x=x, y=y, colour=PALETTE[topic % len(PALETTE)]))
    return placed


def _neighbours(spot: tuple[float, float], spots: Sequence[tuple[float, float]]) -> int:
    return sum(_gap(spot, other) <= REACH for other in spots)


def _gap(one: tuple[float, float], other: tuple[float, float]) -> float:
    return float(((one[0] - other[0]) ** 2 + (one[1] - other[1]) ** 2) ** 0.5)
