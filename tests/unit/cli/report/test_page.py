"""The page and its plots, whole and with parts missing."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime
from html.parser import HTMLParser
from pathlib import Path

import pytest
from markupsafe import escape

from anneal.cli.report.charts import charts, funnel_rows
from anneal.cli.report.model import Number, Question, Report
from anneal.cli.report.page import render, write
from tests.unit.cli.report.sample import METRICS, TASKS, sample_report


class Outline(HTMLParser):
    """Open tags must close in order; collects what the page asks the network for."""

    VOID = frozenset({"meta", "img", "br", "link", "hr", "input"})

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.sources: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag not in self.VOID:
            self.open.append(tag)
        self.sources += [value or "" for name, value in attrs if name in {"src", "href"}]

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def outline(html: str) -> Outline:
    parser = Outline()
    parser.feed(html)
    parser.close()
    assert parser.open == []
    return parser


def test_writes_a_page_that_needs_nothing_else(tmp_path: Path) -> None:
    page = write(sample_report(), tmp_path)
    found = {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if path.is_file()}
    plots = {f"plots/{stem}.{kind}" for stem in ("losses", "funnel", "matrix") for kind in ("svg", "png")}
    assert found == {"index.html", "report.json"} | plots
    sources = outline(page.read_text(encoding="utf-8")).sources
    assert all(source.startswith(("#", "data:image/svg+xml;base64,")) for source in sources)
    assert sum(source.startswith("data:") for source in sources) == 3
    assert Report.model_validate_json((tmp_path / "report.json").read_bytes()) == sample_report()
    for stem in ("losses", "funnel", "matrix"):
        assert (tmp_path / f"plots/{stem}.png").read_bytes().startswith(b"\x89PNG")


def test_every_unseen_question_is_shown_with_all_three_answers_and_counted() -> None:
    report = sample_report()
    html = render(report, {})
    outline(html)
    assert "the adapter is right 2 times of 3, the base model 1 times" in html
    assert "2 of 3" in html, "a tile on top says it, too"
    section = html.partition('<section id="unseen">')[2].partition("</section>")[0]
    (comparison,) = report.comparisons
    for row in comparison.rows:
        for text in (row.question, row.reference, row.base, row.adapter):
            assert section.count(escape(text)) >= 1
    assert section.count("✓") == section.count("✗") == 3
    assert "<b>shutil" not in section, "an answer is text, whatever it holds"
    assert 'id="unseen"' not in render(report.model_copy(update={"comparisons": []}), {})


def test_every_number_of_the_matrix_is_on_the_page() -> None:
    report = sample_report()
    text = re.sub(r"<[^>]+>", " ", render(report, {}))
    own = next(c for c in report.matrix.cells if c.model == "classify" == c.benchmark and c.metric == "token_f1")
    assert own.number.value is not None
    assert f"{own.number.value:.3f}" in text
    assert text.count("+0.570 [+0.510, +0.630]") == 3 * 3
    assert "2 rows unscored" in text


def test_a_run_that_stopped_early_shows_what_there_is(tmp_path: Path) -> None:
    report = Report(title="t", started=datetime(2026, 1, 1, tzinfo=UTC), outcome="failed", failure="no space left")
    html = write(report, tmp_path).read_text(encoding="utf-8")
    outline(html)
    assert "no space left" in html
    assert "<figure>" not in html


@pytest.mark.parametrize(
    "cut", ["trainings", "datasets", "matrix", "judgements", "deployments", "questions", "lineage"]
)
def test_any_part_may_be_missing(cut: str) -> None:
    whole = sample_report().model_dump()
    del whole[cut]
    outline(render(Report.model_validate(whole), {}))


def test_text_from_models_is_shown_not_run() -> None:
    attack = "<script>alert(1)</script>"
    report = sample_report().model_copy(
        update={"questions": [Question(deployment="d", task="t", question=attack, reference=attack)]}
    )
    assert "<script" not in render(report, {})


def test_matrix_plot_has_a_dot_for_every_cell() -> None:
    spec = json.loads(charts(sample_report())["matrix"].to_json())
    assert len(spec["vconcat"]) == len(METRICS)
    assert all(len(row["hconcat"]) == len(TASKS) for row in spec["vconcat"])
    dots = [dot for data in spec["datasets"].values() for dot in data]
    assert len(dots) == 4 * len(TASKS) * len(METRICS)
    own = [dot for dot in dots if dot["kind"] == "adapter, own task"]
    assert {(dot["model"], dot["benchmark"]) for dot in own} == {(task, task) for task in TASKS}


def test_funnel_bars_fall_from_what_came_in_to_what_was_kept() -> None:
    for dataset in sample_report().datasets:
        bars = funnel_rows(dataset)
        left = [bar for bar in bars if bar["what"] == "left"]
        assert [bar["end"] for bar in left] == [dataset.rows_in, *(bar["start"] for bar in left[:-1])]
        kept = next(bar for bar in bars if bar["row"] == "kept")
        assert (kept["start"], kept["end"]) == (0, left[-1]["start"]) == (0, dataset.rows_out)
        assert [bar["end"] - bar["start"] for bar in bars[len(left) + 2 :]] in ([], list(dataset.splits.values()))


def test_a_metric_nobody_could_score_has_no_empty_axes() -> None:
    report = sample_report()
    for cell in report.matrix.cells:
        if cell.metric == METRICS[0]:
            cell.number = Number(unscored=200)
    spec = json.loads(charts(report)["matrix"].to_json())
    assert len(spec["vconcat"]) == len(METRICS) - 1
    for cell in report.matrix.cells:
        cell.number = Number(unscored=200)
    assert "matrix" not in charts(report)


def test_a_dataset_that_lost_nothing_is_left_to_the_table() -> None:
    report = sample_report()
    whole = report.datasets[0].model_copy(update={"removed": [], "quarantined": 0, "splits": {"train": 318}})
    spec = json.loads(charts(report.model_copy(update={"datasets": [*report.datasets, whole]}))["funnel"].to_json())
    assert len(spec["concat"]) == len(report.datasets)
    assert "funnel" not in charts(report.model_copy(update={"datasets": [whole]}))
