"""Orders of overviews from the wire, and overviews onto it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from anneal.curation import codec
from anneal.curation.domain.encoders import KEY_VARIABLE, EncoderSpec, Hashing
from anneal.curation.domain.lexical import Diversity
from anneal.curation.domain.overview import Overview
from anneal.curation.domain.topics import MAX_TOPICS
from anneal.curation.settings import CurationOptions
from anneal.kit.manifests import Manifest
from anneal.v1 import curation_service_pb2 as pb
from anneal.v1 import dataset_pb2

DEFAULT_SAMPLE_ROWS = 10_000
DIMENSION = 4_096
"""Of the hashing encoder where none is named: enough buckets that topics can be told apart by single words."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """What an overview is made by.

    Attributes:
        encoder: of the sample.
        sample_rows: most rows in it.
        topics: most topics; 0 takes a number that goes with the rows.
    """

    encoder: EncoderSpec
    sample_rows: int
    topics: int


def decode_order(request: pb.ExploreDatasetRequest, options: CurationOptions) -> Order:
    """Check a whole order and read it.

    Raises:
        Invalid: with every violation.
    """
    wrong = codec.wrong_name(request.dataset_version, "dataset_version", "dataset_version")
    rows = request.sample_rows
    if not 0 <= rows <= options.max_sample_rows:
        wrong.append(("sample_rows", f"{rows} is not within 0 and {options.max_sample_rows}"))
    if not 0 <= request.topics <= MAX_TOPICS:
        wrong.append(("topics", f"{request.topics} is not within 0 and {MAX_TOPICS}"))
    encoder: EncoderSpec = Hashing(dimension=DIMENSION)
    if request.encoder.fields:
        encoder = codec.decode_encoder(request.encoder, "encoder", wrong)
        wrong += codec.wrong_encoder(encoder, options.encoder, "encoder")
    if request.HasField("labeler"):
        wrong += _wrong_labeler(request.labeler, options)
    codec.refuse(wrong)
    sample_rows = min(rows or DEFAULT_SAMPLE_ROWS, options.max_sample_rows)
    return Order(encoder=encoder, sample_rows=sample_rows, topics=request.topics)


def _wrong_labeler(labeler: pb.TopicLabeler, options: CurationOptions) -> list[codec.Violation]:
    wrong = codec.wrong_host(labeler.base_url, options.encoder, "labeler.base_url")
    if not labeler.model.strip():
        wrong.append(("labeler.model", "is empty"))
    if labeler.api_key_env and not KEY_VARIABLE.fullmatch(labeler.api_key_env):
        wrong.append(("labeler.api_key_env", f"does not follow `{KEY_VARIABLE.pattern}`"))
    return wrong


def encode_overview(name: str, manifest: Manifest, overview: Overview, sample: pb.SampleOverview) -> pb.DatasetOverview:
    """An overview under the version's full name."""
    removed: Mapping[tuple[str, str], int] = manifest.removed
    return pb.DatasetOverview(
        dataset_version=name,
        row_count=overview.rows,
        source_count=len(overview.sources),
        histograms=[pb.Histogram(name=bars.name, edges=bars.edges, counts=bars.counts) for bars in overview.histograms],
        top_sources=overview.top_sources,
        input_row_count=manifest.rows_in,
        split_row_counts=manifest.splits,
        removals=[
            dataset_pb2.RemovalCount(step=step, reason=reason, row_count=rows)
            for (step, reason), rows in sorted(removed.items())
        ],
        quarantined_row_count=manifest.quarantined,
        estimated_token_count=overview.tokens,
        exact_duplicate_count=overview.copies,
        form_row_counts=overview.forms,
        sample=sample,
    )


def encode_diversity(diversity: Diversity) -> pb.LexicalDiversity:
    """Measures of words; what is unknown stays absent."""
    return pb.LexicalDiversity(
        word_count=diversity.words,
        type_token_ratio=diversity.type_token_ratio,
        distinct_1=diversity.distinct_1,
        distinct_2=diversity.distinct_2,
        mtld=diversity.mtld,
    )
