"""An overview in lines for people."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from anneal.cli.overview.charts import percent
from anneal.cli.report.labels import UNKNOWN
from anneal.v1 import curation_service_pb2 as pb

TOP = 6
NAME_WORDS = 4


def facts_of(overview: pb.DatasetOverview) -> Sequence[tuple[str, str]]:
    """What a hurried reader takes away: names and values."""
    sample, words = overview.sample, overview.sample.lexical_diversity
    near = sample.near_duplicate_count if sample.HasField("near_duplicate_count") and sample.row_count else None
    return [
        ("rows", f"{overview.row_count:,}"),
        ("tokens, estimated", _large(overview.estimated_token_count)),
        ("sources", f"{overview.source_count:,}"),
        ("exact duplicates", percent(overview.exact_duplicate_count, overview.row_count)),
        ("near duplicates", UNKNOWN if near is None else percent(near, sample.row_count)),
        ("lexical diversity (MTLD)", f"{words.mtld:.0f}" if words.HasField("mtld") else UNKNOWN),
        ("topics", f"{len(sample.topics)}"),
    ]


def name_of(topic: pb.Topic) -> str:
    """What a topic is called: its label, else its first words."""
    return topic.label or ", ".join(topic.words[:NAME_WORDS]) or "(no words)"


def lines_of(overview: pb.DatasetOverview) -> Iterator[str]:
    """The overview, a line at a time."""
    sample = overview.sample
    yield overview.dataset_version
    yield "  " + " · ".join(f"{name}: {value}" for name, value in facts_of(overview))
    yield from _counts("splits", overview.split_row_counts, overview.row_count)
    yield from _counts("form", overview.form_row_counts, overview.row_count)
    yield from _counts("sources", overview.top_sources, overview.row_count)
    removed = {f"{one.step}/{one.reason}": one.row_count for one in overview.removals}
    yield from _counts("left before", removed, overview.input_row_count)
    if not sample.row_count:
        return
    yield f"  of a sample of {sample.row_count:,} rows, by {sample.encoder}:"
    yield from _counts("languages", sample.language_row_counts, sample.row_count)
    words = sample.lexical_diversity
    measures = {
        "type-token ratio": words.type_token_ratio if words.HasField("type_token_ratio") else None,
        "distinct-1": words.distinct_1 if words.HasField("distinct_1") else None,
        "distinct-2": words.distinct_2 if words.HasField("distinct_2") else None,
    }
    shown = [f"{name} {UNKNOWN if value is None else format(value, '.3f')}" for name, value in measures.items()]
    yield f"  {'words':<12} {', '.join(shown)}"
    for number, topic in enumerate(sample.topics, 1):
        yield f"  topic {number:>2}  {topic.row_count:>6,} rows  {name_of(topic)}"


def _counts(title: str, counts: Mapping[str, int], total: int) -> Iterator[str]:
    ranked = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    if ranked:
        shown = [f"{name or '(none)'} {count:,} ({percent(count, total)})" for name, count in ranked[:TOP]]
        more = [f"{len(ranked) - TOP} more"] if len(ranked) > TOP else []
        yield f"  {title:<12} {', '.join([*shown, *more])}"


def _large(number: int) -> str:
    for size, mark in ((1_000_000_000, "G"), (1_000_000, "M"), (1_000, "k")):
        if number >= size:
            return f"{number / size:.3g} {mark}"
    return str(number)
