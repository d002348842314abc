"""The body of the job that looks a dataset version over: one pass over all rows, then a closer look at a sample."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from anneal.curation import exploration
from anneal.curation.adapters.encoders import encoder_of
from anneal.curation.adapters.topic_labeler import TopicLabeler
from anneal.curation.domain.languages import count_languages
from anneal.curation.domain.lexical import diversity_of
from anneal.curation.domain.overview import Overview, Survey
from anneal.curation.domain.repetition import count_repetitions
from anneal.curation.domain.sampling import Sample, Sampler
from anneal.curation.domain.topics import Topics, find_topics, map_of
from anneal.curation.exploration import Order
from anneal.curation.settings import CurationOptions
from anneal.kit.datasets import DatasetReader
from anneal.kit.jobs.context import JobContext
from anneal.v1 import curation_service_pb2 as pb
from anneal.v1.registry_service_pb2 import GetDatasetVersionRequest
from anneal.v1.registry_service_pb2_grpc import RegistryServiceStub

EXCERPT_CHARACTERS = 160
POINTS = 2_000
"""Most rows on the map: the whole overview has to fit one message of 4 MiB."""
_SPACES = re.compile(r"\s+")


def explore_dataset(ctx: JobContext, request: pb.ExploreDatasetRequest) -> pb.DatasetOverview:
    """Count all rows, and cluster, name and draw some.

    Raises:
        EncoderUnusable: the encoder cannot be used here.
        EncoderAway: its endpoint does not answer.
        EncoderChanged: it gives another dimension than the order says.
    """
    options = CurationOptions.model_validate(ctx.options)
    order = exploration.decode_order(request, options)
    registry: Any = RegistryServiceStub(ctx.channel("registry"))
    version = registry.GetDatasetVersion(GetDatasetVersionRequest(name=request.dataset_version))
    reader = DatasetReader(ctx.store, version.digest)
    overview, sample = _count(ctx, reader, order.sample_rows)
    labeler = None
    if request.HasField("labeler"):
        told = request.labeler
        labeler = TopicLabeler(told.base_url, told.model, told.api_key_env, options.encoder)
    looked = _look(ctx, sample, order, options, labeler)
    return exploration.encode_overview(version.name, reader.manifest, overview, looked)


def _count(ctx: JobContext, reader: DatasetReader, sample_rows: int) -> tuple[Overview, Sample]:
    survey, sampler, done = Survey(), Sampler(sample_rows), 0
    for batch in reader.batches(batch_rows=4096):
        ctx.check()
        survey.add(batch)
        sampler.add(batch)
        done += batch.num_rows
        ctx.progress(done, reader.manifest.rows_out, "rows", "counting")
    return survey.overview(), sampler.sample()


def _look(
    ctx: JobContext, sample: Sample, order: Order, options: CurationOptions, labeler: TopicLabeler | None
) -> pb.SampleOverview:
    def doing(what: str) -> None:
        ctx.check()
        ctx.progress(0, len(sample), "rows", what)

    encoder = encoder_of(order.encoder, options.encoder)
    doing("telling languages")
    looked = pb.SampleOverview(row_count=len(sample), language_row_counts=count_languages(sample.texts))
    doing("comparing texts")
    looked.lexical_diversity.CopyFrom(exploration.encode_diversity(diversity_of(sample.texts)))
    looked.near_duplicate_count = count_repetitions(sample.texts)
    doing(f"encoding with {encoder.name}")
    vectors = encoder.encode(sample.texts)
    looked.encoder = encoder.key
    doing("finding topics")
    topics = find_topics(sample.texts, vectors, order.topics)
    looked.topics.extend(_topics(sample, topics, labeler, doing))
    doing("drawing the map")
    looked.points.extend(_points(sample, topics))
    return looked


def _topics(
    sample: Sample, topics: Topics, labeler: TopicLabeler | None, doing: Callable[[str], None]
) -> list[pb.Topic]:
    made = []
    for number, topic in enumerate(topics.topics):
        middle = [_excerpt(sample, topics, row) for row in topic.middle]
        label = ""
        if labeler is not None:
            doing(f"naming topic {number + 1}")
            label = labeler.label(topic.words, [row.excerpt for row in middle])
        edge = [_excerpt(sample, topics, row) for row in topic.edge]
        made.append(
            pb.Topic(label=label, words=topic.words, row_count=len(topic.rows), representatives=middle, outliers=edge)
        )
    return made


def _excerpt(sample: Sample, topics: Topics, row: int) -> pb.RowExcerpt:
    return pb.RowExcerpt(
        row_id=sample.ids[row], excerpt=excerpt_of(sample.texts[row]), similarity=float(topics.similarities[row])
    )


def _points(sample: Sample, topics: Topics) -> list[pb.MapPoint]:
    rows = [row for row, topic in enumerate(topics.topic_of.tolist()) if topic >= 0][:POINTS]
    places = map_of(topics.reduced[rows])
    return [
        pb.MapPoint(
            row_id=sample.ids[row], x=x, y=y, topic=int(topics.topic_of[row]), excerpt=excerpt_of(sample.texts[row])
        )
        for row, (x, y) in zip(rows, places.tolist(), strict=True)
    ]


def excerpt_of(text: str) -> str:
    """The beginning of a text on one line, at most 160 characters."""
    line = _SPACES.sub(" ", text[: 4 * EXCERPT_CHARACTERS]).strip()
    return line if len(line) <= EXCERPT_CHARACTERS else line[: EXCERPT_CHARACTERS - 1] + "…"
