"""The plots of a report: losses, where rows went, the matrix.

Colours: Okabe and Ito 2008, "Color Universal Design", which readers with any colour vision can tell apart; shape or
place always says the same as the colour.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import altair as alt

from anneal.cli.report.labels import MINUS, metric_label
from anneal.cli.report.model import Dataset, Matrix, Report, Training

BLUE, VERMILION, GREEN, ORANGE, SKY, GREY = "#0072B2", "#D55E00", "#009E73", "#E69F00", "#56B4E9", "#6B7280"
INK, FAINT = "#1F2933", "#E4E7EB"

Panel = alt.LayerChart | alt.FacetChart

OWN, OTHER, BASE = "adapter, own task", "adapter, other task", "base model"


def charts(report: Report) -> dict[str, alt.TopLevelMixin]:
    """The plots there is data for, by file stem."""
    makers: dict[str, tuple[bool, Callable[[], alt.TopLevelMixin]]] = {
        "losses": (any(training.losses for training in report.trainings), lambda: losses(report.trainings)),
        "funnel": (any(map(_has_story, report.datasets)), lambda: funnel(report.datasets)),
        "matrix": (any(cell.number.value is not None for cell in report.matrix.cells), lambda: matrix(report.matrix)),
    }
    return {stem: make() for stem, (has_data, make) in makers.items() if has_data}


def losses(trainings: list[Training]) -> alt.TopLevelMixin:
    """Training and validation loss of every adapter, side by side on one scale."""
    panels = [_loss_panel(training, is_first=index == 0) for index, training in enumerate(trainings) if training.losses]
    return styled(alt.hconcat(*panels, spacing=24).resolve_scale(y="shared", color="shared"))


def _loss_panel(training: Training, *, is_first: bool) -> Panel:
    rows: list[dict[str, Any]] = [
        {"step": point.step, "loss": point.loss, "split": point.split} for point in training.losses
    ]
    colour = alt.Color(
        "split:N",
        scale=alt.Scale(domain=["train", "validation"], range=[SKY, VERMILION]),
        legend=alt.Legend(title=None, orient="top", symbolType="stroke", symbolStrokeWidth=3) if is_first else None,
    )
    base = alt.Chart(alt.InlineData(values=rows)).encode(
        x=alt.X("step:Q", title="optimizer step", axis=alt.Axis(tickCount=5, format="d")),
        y=alt.Y("loss:Q", title="loss, nats per token" if is_first else None, scale=alt.Scale(zero=True, nice=True)),
        color=colour,
    )
    train = base.transform_filter("datum.split == 'train'").mark_line(strokeWidth=1.5)
    validation = base.transform_filter("datum.split == 'validation'").mark_line(
        strokeWidth=2.5, point=alt.OverlayMarkDef(size=42, filled=True)
    )
    layers: list[alt.Chart] = [train, validation]
    if training.best_step is not None:
        best = alt.InlineData(values=[{"step": training.best_step, "text": f"kept: step {training.best_step}"}])
        layers.append(alt.Chart(best).mark_rule(strokeDash=[4, 3], color=GREY).encode(x="step:Q"))
        end = max(point.step for point in training.losses)
        on_left = training.best_step > end / 2
        layers.append(
            alt.Chart(best)
            .mark_text(align="right" if on_left else "left", dx=-5 if on_left else 5, baseline="top", color=INK)
            .encode(x="step:Q", y=alt.value(4), text="text:N")
        )
    return alt.layer(*layers).properties(width=250, height=220, title=training.label)


def funnel(datasets: list[Dataset]) -> alt.TopLevelMixin:
    """For every dataset, what came in, what each reason took away, and what was kept.

    Datasets that lost nothing and have one split are left to the table.
    """
    panels = [_funnel_panel(dataset) for dataset in datasets if _has_story(dataset)]
    return styled(alt.concat(*panels, columns=2, spacing=32).resolve_scale(color="shared", x="independent"))


def _has_story(dataset: Dataset) -> bool:
    return dataset.rows_out < dataset.rows_in or len(dataset.splits) > 1


def _funnel_panel(dataset: Dataset) -> Panel:
    rows = funnel_rows(dataset)
    order = [row["row"] for row in rows]
    most = max(dataset.rows_in, 1)
    base = alt.Chart(alt.InlineData(values=rows)).encode(
        y=alt.Y("row:N", sort=order, title=None, axis=alt.Axis(labelLimit=260, labelPadding=6, ticks=False)),
    )
    bars = base.mark_bar(height={"band": 0.72}, cornerRadius=1).encode(
        x=alt.X(
            "start:Q",
            title="rows",
            scale=alt.Scale(domain=[0, most * 1.16], nice=False),
            axis=alt.Axis(tickCount=4, format=",d"),
        ),
        x2="end:Q",
        color=alt.Color(
            "what:N",
            scale=alt.Scale(domain=["came in", "left", "kept"], range=[GREY, VERMILION, GREEN]),
            legend=alt.Legend(title=None, orient="top"),
        ),
    )
    labels = base.mark_text(align="left", dx=5, color=INK).encode(x="end:Q", text="text:N")
    height = 22 * len(rows)
    return alt.layer(bars, labels).properties(width=260, height=height, title=dataset.label)


def funnel_rows(dataset: Dataset) -> list[dict[str, Any]]:
    """Bars from top to bottom; a bar of rows that left starts where the one above it ended."""
    rows: list[dict[str, Any]] = [
        {"row": "came in", "what": "came in", "start": 0, "end": dataset.rows_in, "text": f"{dataset.rows_in:,}"}
    ]
    left = [(f"{_words(removal.step)}: {_words(removal.reason)}", removal.rows) for removal in dataset.removed]
    if dataset.quarantined:
        left.insert(0, ("quarantined: unreadable", dataset.quarantined))
    remaining = dataset.rows_in
    for name, count in left:
        rows.append(
            {"row": name, "what": "left", "start": remaining - count, "end": remaining, "text": f"{MINUS}{count:,}"}
        )
        remaining -= count
    rows.append({"row": "kept", "what": "kept", "start": 0, "end": remaining, "text": f"{remaining:,}"})
    if len(dataset.splits) > 1:
        start = 0
        for split, count in dataset.splits.items():
            rows.append(
                {"row": f"kept: {split}", "what": "kept", "start": start, "end": start + count, "text": f"{count:,}"}
            )
            start += count
    return rows


def matrix(matrix: Matrix) -> alt.TopLevelMixin:
    """A panel for each metric and benchmark; a dot for each model, with its 95 % interval."""
    measured = {cell.metric for cell in matrix.cells if cell.number.value is not None}
    metrics = [metric for metric in matrix.metrics if metric in measured]
    rows = [_metric_row(matrix, metric, is_first=metric == metrics[0]) for metric in metrics]
    return styled(alt.vconcat(*rows, spacing=14))


def _metric_row(matrix: Matrix, metric: str, *, is_first: bool) -> alt.HConcatChart:
    is_log = metric == "perplexity"
    rows = [_dot(matrix, cell) for cell in matrix.cells if cell.metric == metric and cell.number.value is not None]
    ends = [row[key] for row in rows for key in ("value", "low", "high")]
    is_share = max(ends) <= 1.05 and not is_log
    if is_log:
        scale = alt.Scale(type="log", domain=[min(ends) * 0.93, max(ends) * 1.07], nice=False)
    elif is_share:
        scale = alt.Scale(domain=[min(0.0, *ends), max(1.0, *ends)])
    else:
        scale = alt.Scale(domain=[min(0.0, *ends), max(ends) * 1.05])
    panels = []
    for index, benchmark in enumerate(matrix.benchmarks):
        mine = [row for row in rows if row["benchmark"] == benchmark.label]
        panel = _dots(matrix, mine, metric, scale, has_labels=index == 0)
        panels.append(panel.properties(title=f"on {benchmark.label}") if is_first else panel)
    return alt.hconcat(*panels, spacing=18)


def _dot(matrix: Matrix, cell: Any) -> dict[str, Any]:
    task = next((model.task for model in matrix.models if model.label == cell.model), None)
    kind = BASE if task is None else OWN if task == cell.benchmark else OTHER
    value = cell.number.value
    low = value if cell.number.low is None else cell.number.low
    high = value if cell.number.high is None else cell.number.high
    return {"model": cell.model, "benchmark": cell.benchmark, "kind": kind, "value": value, "low": low, "high": high}


def _dots(matrix: Matrix, rows: list[dict[str, Any]], metric: str, scale: alt.Scale, *, has_labels: bool) -> Panel:
    kinds = [BASE, OTHER, OWN]
    axis = alt.Axis(ticks=False, labelPadding=8) if has_labels else alt.Axis(ticks=False, labels=False)
    base = alt.Chart(alt.InlineData(values=rows)).encode(
        y=alt.Y(
            "model:N",
            sort=[model.label for model in matrix.models],
            title=None,
            axis=axis,
            scale=alt.Scale(domain=[model.label for model in matrix.models]),
        ),
        color=alt.Color(
            "kind:N",
            scale=alt.Scale(domain=kinds, range=[GREY, BLUE, VERMILION]),
            legend=alt.Legend(title=None, orient="top", symbolSize=90),
        ),
    )
    x_axis = alt.Axis(tickCount=4, format=".4~r", labelOverlap=True)
    whiskers = base.mark_rule(strokeWidth=2).encode(x=alt.X("low:Q", scale=scale, axis=x_axis), x2="high:Q")
    dots = base.mark_point(filled=True, size=80, opacity=1).encode(
        x=alt.X("value:Q", title=metric_label(metric), scale=scale, axis=x_axis),
        shape=alt.Shape("kind:N", scale=alt.Scale(domain=kinds, range=["square", "circle", "diamond"])),
    )
    return alt.layer(whiskers, dots).properties(width=230, height=24 * len(matrix.models))


def _words(reason: str) -> str:
    return reason.replace("_", " ")


def styled(chart: Any) -> alt.TopLevelMixin:
    """One look for all: light ground, quiet grid, a font that is everywhere."""
    font = "Liberation Sans, Arial, Helvetica, sans-serif"
    styled: alt.TopLevelMixin = (
        chart.configure(background="white", font=font, padding=12)
        .configure_view(stroke=None)
        .configure_axis(
            gridColor=FAINT,
            domainColor="#9AA5B1",
            tickColor="#9AA5B1",
            labelColor=INK,
            titleColor=INK,
            labelFontSize=12,
            titleFontSize=12,
            titleFontWeight="normal",
        )
        .configure_axisY(grid=False)
        .configure_title(fontSize=14, anchor="start", color=INK, fontWeight="bold", offset=8)
        .configure_legend(labelFontSize=13, labelColor=INK, labelLimit=260)
        .configure_text(fontSize=12)
    )
    return styled
