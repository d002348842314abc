"""The page of a report: one self-contained HTML file, its plots beside it as SVG and PNG."""

from __future__ import annotations

import base64
import json
from pathlib import Path

import vl_convert
from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape

from anneal.cli.report import labels
from anneal.cli.report.charts import charts
from anneal.cli.report.model import Cell, Report

_ALT = {
    "losses": "Training and validation loss of each adapter over its optimizer steps",
    "funnel": "For each dataset: rows that came in, rows that left by reason, rows kept by split",
    "matrix": "Each metric of each model on each benchmark, with its 95 % confidence interval",
}


def write(report: Report, folder: Path) -> Path:
    """Write `report.json`, `index.html` and `plots/*.svg|png` under the folder; returns the page's path.

    The page holds its plots itself and asks for nothing over the network.
    """
    plots = folder / "plots"
    plots.mkdir(parents=True, exist_ok=True)
    (folder / "report.json").write_text(report.model_dump_json(indent=2) + "\n", encoding="utf-8")
    images = {}
    for stem, chart in charts(report).items():
        spec = chart.to_json()
        svg = vl_convert.vegalite_to_svg(spec)
        (plots / f"{stem}.svg").write_text(svg, encoding="utf-8")
        (plots / f"{stem}.png").write_bytes(vl_convert.vegalite_to_png(spec, scale=2))
        images[stem] = svg
    page = folder / "index.html"
    page.write_text(render(report, images), encoding="utf-8")
    return page


def render(report: Report, images: dict[str, str]) -> str:
    """The page's HTML. `images` are the plots as SVG text, by stem."""
    environment = Environment(
        loader=PackageLoader("anneal.cli.report", "templates"),
        autoescape=select_autoescape(default=True, default_for_string=True),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    cells: dict[tuple[str, str, str], Cell] = {
        (cell.metric, cell.model, cell.benchmark): cell for cell in report.matrix.cells
    }
    plots = {
        stem: {"uri": "data:image/svg+xml;base64," + base64.b64encode(svg.encode()).decode(), "alt": _ALT[stem]}
        for stem, svg in images.items()
    }
    return environment.get_template("index.html").render(
        report=report,
        cells=cells,
        plots=plots,
        labels=labels,
        settings=json.dumps(report.settings, indent=2, ensure_ascii=False),
        headline=_headline(report),
    )


def _headline(report: Report) -> list[tuple[str, str]]:
    """The tiles on top: what a hurried reader takes away."""
    tiles = [("time", labels.duration(report.seconds))]
    if report.datasets:
        tiles.append(("rows kept", f"{sum(dataset.rows_out for dataset in report.datasets):,}"))
        left = sum(dataset.rows_in - dataset.rows_out for dataset in report.datasets)
        tiles.append(("rows left out", f"{left:,}"))
    if report.trainings:
        tiles.append(("adapters", f"{len(report.trainings)}"))
    if report.judgements:
        passed = sum(judgement.verdict == "GO" for judgement in report.judgements)
        tiles.append(("GO", f"{passed} of {len(report.judgements)}"))
    if report.comparisons:
        right = sum(comparison.adapter_right for comparison in report.comparisons)
        asked = sum(len(comparison.rows) for comparison in report.comparisons)
        tiles.append(("unseen questions answered right", f"{right} of {asked}"))
    opened = sum(not deployment.refusal for deployment in report.deployments)
    if report.deployments:
        tiles.append(("deployments", f"{opened}"))
    return tiles
