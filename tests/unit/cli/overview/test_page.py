"""The page of an overview and its lines, whole and with parts missing."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from anneal.cli.overview.charts import bin_label, percent
from anneal.cli.overview.page import BADGE, badges, render, write
from anneal.cli.overview.text import lines_of
from anneal.cli.report.labels import UNKNOWN
from anneal.v1 import curation_service_pb2 as pb
from tests.unit.cli.overview.sample import sample_overview
from tests.unit.cli.report.test_page import outline


def test_writes_one_page_that_needs_nothing_else(tmp_path: Path) -> None:
    page = tmp_path / "new" / "page.html"
    write(sample_overview(), page)
    assert [path.name for path in page.parent.iterdir()] == ["page.html"]
    html = page.read_text(encoding="utf-8")
    sources = outline(html).sources
    assert len(sources) == 3
    assert all(source.startswith("data:image/svg+xml;base64,") for source in sources)
    assert not re.search(r"https?://|url\(|@import|fetch\(", re.sub(r"data:image[^\"]*", "", html))


def test_every_row_of_the_map_can_be_read_and_is_only_text() -> None:
    html = render(sample_overview(), {})
    assert html.count('<circle class="row"') == 40
    assert "<title>1 · row 7 &lt;i&gt;</title>" in html
    assert "fry &lt;b&gt;onions&lt;/b&gt; · slowly" in html
    assert "<i>" not in html.replace("</i>", "")


def test_topics_have_their_label_or_their_words_and_each_number_is_on_the_map() -> None:
    html = render(sample_overview(), {})
    assert '<span class="words">onion, garlic</span><span class="count">30 · 75 %</span>' in html
    assert '<span class="words">Boats</span><span class="count">10 · 25 %</span>' in html
    assert re.findall(r'<text x="[\d.]+" y="[\d.]+">(\d)</text>', html) == ["1", "2"]


def test_what_is_unknown_is_a_dash_and_not_zero() -> None:
    html = render(sample_overview(), {})
    assert re.search(rf"lexical diversity \(MTLD\), words</th><td>{UNKNOWN}</td>", html)
    assert re.search(r"distinct-1\)</th><td>0\.250</td>", html)
    assert f"<b>{UNKNOWN}</b><span>lexical diversity (MTLD)</span>" in html


def test_a_dataset_without_rows_has_a_page(tmp_path: Path) -> None:
    write(pb.DatasetOverview(dataset_version="projects/p/datasets/none/versions/1"), tmp_path / "page.html")
    html = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert outline(html).sources == []
    assert 'id="map"' not in html


def test_numbers_of_topics_do_not_cover_each_other() -> None:
    points = [pb.MapPoint(x=0.5 + (n % 4) / 30, y=0.5, topic=n % 3) for n in range(60)]
    placed = badges(points)
    assert [one.number for one in placed] == [1, 2, 3]
    gaps = [abs(one.x - other.x) for one in placed for other in placed if one is not other]
    assert min(gaps) >= BADGE


def test_a_number_stands_where_its_points_are_densest() -> None:
    far = [pb.MapPoint(x=0, y=n / 10, topic=0) for n in range(9)]
    heap = [pb.MapPoint(x=0.9 + n / 1000, y=0.5, topic=0) for n in range(5)]
    (placed,) = badges([*far, *heap])
    assert placed.x > 900


def test_the_lines_say_what_a_hurried_reader_needs() -> None:
    text = "\n".join(lines_of(sample_overview()))
    assert "rows: 80 · tokens, estimated: 1.23 M · sources: 2 · exact duplicates: 10 % · near duplicates: 10 %" in text
    assert "left before  length/answer_too_short 20 (20 %)" in text
    assert "form         plain 79 (99 %), code 1 (1.2 %)" in text
    assert "topic  1      30 rows  onion, garlic" in text
    assert "type-token ratio 0.800" in text


@pytest.mark.parametrize(
    ("low", "high", "label"),
    [
        (0, 1, "0"),
        (1, 2, "1"),
        (2, 4, "2-3"),
        (512, 1024, "512-1023"),
        (1024, 2048, "1k-2k"),
        (1 << 20, 1 << 21, "1M-2M"),
    ],
)
def test_bins_are_written_for_people(low: int, high: int, label: str) -> None:
    assert bin_label(low, high) == label.replace("-", UNKNOWN)


@pytest.mark.parametrize(
    ("count", "share"), [(0, "0 %"), (1, "< 0.1 %"), (10, "0.1 %"), (999, "10.0 %"), (1_000, "10 %"), (10_000, "100 %")]
)
def test_a_small_share_is_not_none(count: int, share: str) -> None:
    assert percent(count, 10_000) == share
