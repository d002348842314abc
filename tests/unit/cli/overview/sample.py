"""An overview with everything in it."""

from __future__ import annotations

from anneal.v1 import curation_service_pb2 as pb
from anneal.v1 import dataset_pb2


def sample_overview() -> pb.DatasetOverview:
    topics = [
        pb.Topic(
            words=["onion", "garlic"],
            row_count=30,
            representatives=[pb.RowExcerpt(row_id="a" * 64, excerpt="fry <b>onions</b> · slowly", similarity=0.9)],
            outliers=[pb.RowExcerpt(row_id="b" * 64, excerpt="", similarity=0.1)],
        ),
        pb.Topic(label="Boats", words=["mast", "keel"], row_count=10),
    ]
    points = [
        pb.MapPoint(row_id=f"{n}", x=n / 39, y=(n * 7 % 40) / 39, topic=int(n >= 30), excerpt=f"row {n} <i>")
        for n in range(40)
    ]
    sample = pb.SampleOverview(
        row_count=40,
        encoder="hashing:1:4096",
        language_row_counts={"en": 30, "und": 10},
        lexical_diversity=pb.LexicalDiversity(word_count=900, type_token_ratio=0.8, distinct_1=0.25, distinct_2=0.5),
        near_duplicate_count=4,
        topics=topics,
        points=points,
    )
    return pb.DatasetOverview(
        dataset_version="projects/p/datasets/rows/versions/1",
        row_count=80,
        source_count=2,
        histograms=[pb.Histogram(name="answer_words", edges=[0, 1, 2, 4, 8], counts=[0, 20, 0, 60])],
        top_sources={"a.html": 70, "": 10},
        input_row_count=100,
        split_row_counts={"train": 60, "test": 20},
        removals=[dataset_pb2.RemovalCount(step="length", reason="answer_too_short", row_count=20)],
        estimated_token_count=1_234_567,
        exact_duplicate_count=8,
        form_row_counts={"plain": 79, "code": 1},
        sample=sample,
    )
