"""The plots of an overview: lengths, shares, where rows went."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import altair as alt

from anneal.cli.report.charts import BLUE, INK, Panel, funnel, styled
from anneal.cli.report.model import Dataset, Removal
from anneal.v1 import curation_service_pb2 as pb

TOP = 12
_TITLES = {
    "messages": "messages per row",
    "estimated_tokens": "tokens per row, estimated",
    "text_words": "words per text",
    "prompt_words": "words per prompt",
    "answer_words": "words per answer",
    "text_characters": "characters per text",
    "prompt_characters": "characters per prompt",
    "answer_characters": "characters per answer",
}


def charts(overview: pb.DatasetOverview) -> dict[str, alt.TopLevelMixin]:
    """The plots there is data for, by name."""
    left = bool(overview.removals or overview.quarantined_row_count or len(overview.split_row_counts) > 1)
    makers: dict[str, tuple[bool, Callable[[], alt.TopLevelMixin]]] = {
        "funnel": (left, lambda: funnel([_dataset(overview)])),
        "lengths": (bool(overview.row_count), lambda: lengths(overview.histograms)),
        "shares": (bool(overview.row_count), lambda: shares(overview)),
    }
    return {name: make() for name, (has_data, make) in makers.items() if has_data}


def lengths(histograms: Sequence[pb.Histogram]) -> alt.TopLevelMixin:
    """A panel per measure; each bin is twice as wide as the one before it."""
    known = {one.name: one for one in histograms if sum(one.counts)}
    panels = [_bars(known[name], title) for name, title in _TITLES.items() if name in known]
    return styled(alt.concat(*panels, columns=3, spacing=28))


def _bars(histogram: pb.Histogram, title: str) -> Panel:
    used = [place for place, count in enumerate(histogram.counts) if count]
    shown = range(used[0], used[-1] + 1)
    rows: list[dict[str, Any]] = [
        {"bin": bin_label(histogram.edges[n], histogram.edges[n + 1]), "rows": histogram.counts[n]} for n in shown
    ]
    chart = (
        alt.Chart(alt.InlineData(values=rows))
        .mark_bar(color=BLUE, cornerRadiusEnd=1)
        .encode(
            x=alt.X(
                "bin:N",
                sort=[row["bin"] for row in rows],
                title=None,
                axis=alt.Axis(labelAngle=-50, ticks=False, labelPadding=4, labelFontSize=11),
            ),
            y=alt.Y("rows:Q", title="rows", axis=alt.Axis(tickCount=4, format=",d", grid=True)),
        )
    )
    return alt.layer(chart).properties(width=250, height=130, title=title)


def bin_label(low: float, high: float) -> str:
    """A bin of whole numbers for people: `0`, `1`, `4-7`, `1k-2k`."""
    first, last = int(low), int(high) - 1
    if first == last:
        return str(first)
    if first >= 1024:
        return f"{_short(first)}\N{EN DASH}{_short(last + 1)}"
    return f"{first}\N{EN DASH}{last}"


def _short(number: int) -> str:
    return f"{number >> 20}M" if number >= 1 << 20 else f"{number >> 10}k"


def shares(overview: pb.DatasetOverview) -> alt.TopLevelMixin:
    """Rows by form and by source, and those of the sample by language."""
    tables: list[tuple[str, Mapping[str, int], int]] = [
        ("form of the text", overview.form_row_counts, overview.row_count),
        ("language, in the sample", overview.sample.language_row_counts, overview.sample.row_count),
        ("source", overview.top_sources, overview.row_count),
    ]
    panels = [_share(title, counts, total) for title, counts, total in tables if counts]
    return styled(alt.concat(*panels, columns=3, spacing=24).resolve_scale(x="independent", y="independent"))


def _share(title: str, counts: Mapping[str, int], total: int) -> Panel:
    ranked = sorted(counts.items(), key=lambda item: (-item[1], item[0]))[:TOP]
    rows: list[dict[str, Any]] = [
        {"name": short(name) or "(none)", "rows": count, "text": f"{count:,} ({percent(count, total)})"}
        for name, count in ranked
    ]
    base = alt.Chart(alt.InlineData(values=rows)).encode(
        y=alt.Y(
            "name:N",
            sort=[row["name"] for row in rows],
            title=None,
            axis=alt.Axis(labelLimit=190, labelPadding=6, ticks=False),
        ),
        x=alt.X(
            "rows:Q",
            title=None,
            scale=alt.Scale(domain=[0, 1.7 * ranked[0][1]], nice=False),
            axis=alt.Axis(tickCount=3, format=",d"),
        ),
    )
    bars = base.mark_bar(color=BLUE, height={"band": 0.72}, cornerRadius=1)
    labels = base.mark_text(align="left", dx=5, color=INK).encode(text="text:N")
    return alt.layer(bars, labels).properties(width=210, height=max(22 * len(rows), 44), title=title)


def percent(count: int, total: int) -> str:
    """A share of rows; small ones are not called none."""
    if not total:
        return "\N{EN DASH}"
    share = 100 * count / total
    return f"{share:.0f} %" if share >= 10 or not count else f"{share:.1f} %" if share >= 0.1 else "< 0.1 %"


def short(name: str, characters: int = 26) -> str:
    """A long name by its end, where names differ."""
    return name if len(name) <= characters else "…" + name[1 - characters :]


def _dataset(overview: pb.DatasetOverview) -> Dataset:
    return Dataset(
        label=overview.dataset_version.rpartition("/datasets/")[2].replace("/versions/", ", version "),
        version=overview.dataset_version,
        digest="",
        kind="document",
        rows_in=overview.input_row_count,
        removed=[Removal(step=one.step, reason=one.reason, rows=one.row_count) for one in overview.removals],
        quarantined=overview.quarantined_row_count,
        splits=dict(sorted(overview.split_row_counts.items(), key=lambda item: -item[1])),
    )
