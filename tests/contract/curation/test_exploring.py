"""Overviews of dataset versions: a job whose result is no dataset."""

from __future__ import annotations

import asyncio
import json
import os
import re
import subprocess
import sys
import uuid
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.longrunning import operations_pb2

from anneal.kit.rpc.status import decode_status
from anneal.v1 import curation_service_pb2 as pb
from tests.contract.curation.house import House, asked, metadata, page, refusal, step
from tests.fixtures.openai_server import completion, openai_server
from tests.unit.curation.embedding_server import embedding_server

pytestmark = pytest.mark.asyncio(loop_scope="package")

SUBJECTS = {
    "cooking": "simmer onion garlic butter pepper saucepan oven recipe flour dough",
    "sailing": "harbour anchor mast rudder tide sailboat wind deck rope compass",
    "banking": "account loan interest deposit credit branch transfer currency invoice balance",
}


def subjects(count: int = 30) -> list[dict[str, Any]]:
    rows = []
    for subject, text in SUBJECTS.items():
        words = text.split()
        for n in range(count):
            picked = [words[(n * 3 + k * (1 + n % 7)) % 10] for k in range(6)]
            rows.append(asked(f"Tell me about {subject} number {n}", " ".join(picked), f"{subject}-{n}.html"))
    return rows


async def refused(call: Any) -> tuple[str, str, list[str]]:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    return refusal(caught.value)


async def test_an_overview_counts_all_rows(house: House) -> None:
    rows = [asked("What is a b?", "c", "x"), asked("What is d?", '{"e": [1, 2]}', "x"), asked("f", "", "y")]
    source = await house.publish(
        "counted", {"train": [*rows, asked("what is  D?", '{"E": [1, 2]}', "z")], "test": rows[:1]}
    )
    overview = await house.explored(source.name)
    assert (overview.dataset_version, overview.row_count, overview.input_row_count) == (source.name, 5, 5)
    assert (overview.source_count, dict(overview.top_sources)) == (3, {"x": 3, "y": 1, "z": 1})
    assert dict(overview.split_row_counts) == {"train": 4, "test": 1}
    assert dict(overview.form_row_counts) == {"plain": 2, "json": 2, "empty": 1}
    assert overview.exact_duplicate_count == 2
    bars = {histogram.name: histogram for histogram in overview.histograms}
    lengths = {f"{part}_{unit}" for part in ("prompt", "answer") for unit in ("characters", "words")}
    assert set(bars) == {"messages", "estimated_tokens", *lengths}
    assert (list(bars["prompt_words"].edges), list(bars["prompt_words"].counts)) == ([0, 1, 2, 4, 8], [0, 1, 2, 2])
    assert all(len(one.edges) == len(one.counts) + 1 and sum(one.counts) == 5 for one in bars.values())
    assert overview.estimated_token_count == sum(-(-size // 4) for size in (14, 14, 24, 2, 25))


async def test_an_overview_shows_why_rows_left(house: House) -> None:
    source = await house.publish("left", {"train": [asked("What is it?", ""), *subjects(2)]})
    version = await house.curated(step("length", min_answer_words=1), sources=[source.name])
    overview = await house.explored(version.name)
    assert (overview.input_row_count, overview.row_count) == (7, 6)
    assert [(one.step, one.reason, one.row_count) for one in overview.removals] == [("length", "answer_too_short", 1)]


async def test_a_sample_is_sorted_into_topics_with_their_words_and_drawn(house: House) -> None:
    rows = subjects()
    source = await house.publish("subjects", {"train": rows})
    sample = (await house.explored(source.name, topics=3)).sample
    assert (sample.row_count, len(sample.topics), len(sample.points)) == (90, 3, 90)
    assert sample.encoder.startswith("hashing:")
    assert [topic.row_count for topic in sample.topics] == [30, 30, 30]
    found = [
        next(name for name, text in SUBJECTS.items() if set(topic.words) & {name, *text.split()})
        for topic in sample.topics
    ]
    assert sorted(found) == sorted(SUBJECTS)
    by_id = {row["id"]: row for row in rows}
    for number, subject in enumerate(found):
        topic = sample.topics[number]
        assert set(topic.words) <= {subject, *SUBJECTS[subject].split()}
        shown = [*topic.representatives, *topic.outliers]
        assert len({row.row_id for row in shown}) == 6
        assert all(by_id[row.row_id]["source"].startswith(subject) for row in shown)
        assert topic.representatives[0].similarity >= topic.outliers[0].similarity
        mine = [point for point in sample.points if point.topic == number]
        assert all(by_id[point.row_id]["source"].startswith(subject) for point in mine)
    assert all(0 <= place <= 1 for point in sample.points for place in (point.x, point.y))
    assert all(point.excerpt.startswith("Tell me about") for point in sample.points)
    assert dict(sample.language_row_counts).keys() <= {"en", "und", "de", "fr", "nl", "no", "da", "it", "la", "sv"}
    diversity = sample.lexical_diversity
    assert 0 < diversity.distinct_1 < diversity.distinct_2 < 1
    assert diversity.mtld > 10


async def test_the_same_order_gives_the_same_overview_whatever_the_order_of_rows(house: House) -> None:
    rows = subjects()
    first = await house.publish("forwards", {"train": rows})
    second = await house.publish("backwards", {"train": rows[::-1]})
    one, two = [await house.explored(version.name, sample_rows=40) for version in (first, second)]
    assert one.sample.row_count == two.sample.row_count == 40
    one.dataset_version = two.dataset_version
    assert one == two


async def test_an_overview_of_nothing_and_of_little(house: House) -> None:
    empty = await house.explored((await house.publish("none", {"train": []})).name)
    assert (empty.row_count, empty.sample.row_count, len(empty.sample.topics), len(empty.sample.points)) == (0, 0, 0, 0)
    diversity = empty.sample.lexical_diversity
    assert not any(diversity.HasField(name) for name in ("type_token_ratio", "distinct_1", "distinct_2", "mtld"))
    pages = await house.publish("faces", {"train": [page("😀 😀", "a"), page("", "b")]}, kind="document")
    little = await house.explored(pages.name)
    assert (little.row_count, len(little.sample.points), len(little.sample.topics)) == (2, 1, 1)
    assert list(little.sample.topics[0].words) == []
    assert dict(little.sample.language_row_counts) == {"und": 2}


async def test_a_model_names_topics(house: House) -> None:
    source = await house.publish("named", {"train": subjects(10)})
    with openai_server(lambda _body, _same: completion('"Boats and wind."\nBecause ...')) as server:
        overview = await house.explored(
            source.name, topics=2, labeler=pb.TopicLabeler(base_url=server.base_url, model="m")
        )
    assert [topic.label for topic in overview.sample.topics] == ["Boats and wind"] * 2
    assert len(server.requests) == 2
    assert all(word in server.requests[0]["messages"][0]["content"] for word in overview.sample.topics[0].words)


async def test_an_encoder_that_cannot_be_used_fails_the_job_with_its_reason(house: House) -> None:
    source = await house.publish("named", {"train": subjects(10)})
    request = pb.ExploreDatasetRequest(dataset_version=source.name)
    variable = "ANNEAL_ENCODER_KEY_ABSENT"
    assert variable not in os.environ
    request.encoder.update(
        {"kind": "endpoint", "base_url": "http://127.0.0.1:9/v1", "model": "m", "api_key_env": variable}
    )
    done = await house.finished(await house.curation.ExploreDataset(request))
    found = decode_status(done.error)
    assert found is not None
    assert (found.reason, variable in str(found)) == ("ENCODER_UNUSABLE", True)


@pytest.mark.parametrize(
    ("faults", "dimension", "reason"),
    [(100, 16, "ENCODER_AWAY"), (0, 32, "ENCODER_CHANGED")],
)
async def test_an_endpoint_that_is_away_or_another_fails_the_job(
    house: House, faults: int, dimension: int, reason: str
) -> None:
    source = await house.publish("named", {"train": subjects(10)})
    request = pb.ExploreDatasetRequest(dataset_version=source.name)
    with embedding_server(lambda _text: [1.0] * 16, *[(503, {"retry-after": "0.01"})] * faults) as server:
        request.encoder.update({"kind": "endpoint", "base_url": server.base_url, "model": "m", "dimension": dimension})
        done = await house.finished(await house.curation.ExploreDataset(request))
    found = decode_status(done.error)
    assert found is not None
    assert found.reason == reason


async def test_a_request_id_gives_the_same_overview_and_refuses_other_content(house: House) -> None:
    source = await house.publish("named", {"train": subjects(10)})
    request = pb.ExploreDatasetRequest(dataset_version=source.name, request_id=str(uuid.uuid4()))
    first = await house.curation.ExploreDataset(request)
    assert (await house.curation.ExploreDataset(request)).name == first.name
    request.topics = 5
    assert (await refused(house.curation.ExploreDataset(request)))[:2] == ("ALREADY_EXISTS", "REQUEST_ID_REUSED")
    assert metadata(await house.finished(first)).kind == "explore"


async def test_a_cancelled_overview_ends(house: House) -> None:
    source = await house.publish("named", {"train": subjects(10)})
    accepted = await house.curation.ExploreDataset(pb.ExploreDatasetRequest(dataset_version=source.name))
    await house.operations.CancelOperation(operations_pb2.CancelOperationRequest(name=accepted.name))
    assert (await house.finished(accepted)).error.code == grpc.StatusCode.CANCELLED.value[0]


async def test_validate_only_looks_at_nothing(house: House) -> None:
    source = await house.publish("quiet", {"train": subjects(1)})
    answer = await house.curation.ExploreDataset(
        pb.ExploreDatasetRequest(dataset_version=source.name, validate_only=True)
    )
    assert (answer.done, answer.name) == (True, "")


async def test_the_command_writes_the_page_and_says_what_it_found(house: House, tmp_path: Path) -> None:
    source = await house.publish("shown", {"train": subjects()})
    words = ["--address", house.host.address, "--project", "p"]
    call = [sys.executable, "-m", "anneal.cli", *words, "datasets", "explore", source.name, "--topics", "3"]
    page = tmp_path / "page.html"
    done = await asyncio.to_thread(
        subprocess.run, [*call, "--html", str(page)], check=True, capture_output=True, text=True, timeout=100
    )
    assert "rows: 90" in done.stdout
    assert re.search(r"topic +3 +30 rows", done.stdout)
    assert page.read_text(encoding="utf-8").count('<circle class="row"') == 90
    again = await asyncio.to_thread(
        subprocess.run, [*call, "--json"], check=True, capture_output=True, text=True, timeout=100
    )
    assert len(json.loads(again.stdout)["sample"]["topics"]) == 3
    # The same order is not carried out twice.
    listed = await house.operations.ListOperations(
        operations_pb2.ListOperationsRequest(name="projects/p", filter="kind=explore")
    )
    assert sum(source.name in metadata(one).request_json for one in listed.operations) == 1


async def test_an_overview_of_what_is_missing_or_wrong_is_refused(house: House) -> None:
    gone = pb.ExploreDatasetRequest(dataset_version="projects/p/datasets/nothing/versions/latest")
    assert (await refused(house.curation.ExploreDataset(gone)))[:2] == ("NOT_FOUND", "DATASET_VERSION_MISSING")
    wrong = pb.ExploreDatasetRequest(
        dataset_version="nothing",
        sample_rows=-1,
        topics=51,
        labeler=pb.TopicLabeler(base_url="file:///x", model=" ", api_key_env="HOME"),
    )
    wrong.encoder.update({"kind": "hashing", "dimension": 1})
    assert await refused(house.curation.ExploreDataset(wrong)) == (
        "INVALID_ARGUMENT",
        "INVALID_REQUEST",
        [
            "dataset_version",
            "sample_rows",
            "topics",
            "encoder.dimension",
            "labeler.base_url",
            "labeler.model",
            "labeler.api_key_env",
        ],
    )
