from __future__ import annotations

import json
import uuid
from typing import Any

import grpc
import pytest
from google.longrunning import operations_pb2

from anneal.kit.datasets import DatasetReader
from anneal.kit.rpc.status import decode_status
from anneal.v1 import curation_service_pb2 as pb
from anneal.v1 import dataset_pb2
from tests.contract.curation.house import House, asked, compared, order, page, refusal, step

pytestmark = pytest.mark.asyncio(loop_scope="package")

WORDS = "one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen"


async def refused(call: Any) -> tuple[str, str, list[str]]:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    return refusal(caught.value)


def many(count: int = 40) -> list[dict[str, Any]]:
    return [asked(f"What is thing {n}?", f"Thing {n} is number {n} of them.", f"page-{n}.html") for n in range(count)]


async def test_a_whole_pipeline_balances_and_says_why(house: House) -> None:
    rows = [
        *many(),
        asked("What is thing 1?", ""),
        asked("Say", "the Secret  Word now"),
        asked("WHAT is  thing 2?", "?"),
    ]
    source = await house.publish("raw", {"train": rows})
    steps = [
        step("length", max_answer_characters=100),
        step("keywords", exclude=["secret word"]),
        step("format"),
        step("exact_duplicates", part="prompt"),
        step("fuzzy_duplicates"),
        step("split"),
    ]
    version = await house.curated(*steps, sources=[source.name])
    assert version.input_row_count == len(rows) == version.row_count + sum(r.row_count for r in version.removals)
    assert {(r.step, r.reason): r.row_count for r in version.removals} == {
        ("keywords", "excluded_keyword"): 1,
        ("format", "empty_answer"): 1,
        ("exact_duplicates", "exact_duplicate"): 1,
    }
    assert set(version.split_row_counts) == {"train", "validation", "test"}
    assert list(version.parents) == [source.name]
    assert json.loads(version.recipe_json)["steps"][0]["params"] == {"max_answer_characters": 100.0}
    (copy,) = [row for row in house.rows(version, part="removed") if row["removed_step"] == "exact_duplicates"]
    kept = {row["id"]: row for row in house.rows(version)}
    assert copy["removed_duplicate_of"] in kept
    assert json.loads(copy["removed_numbers"]) == {"copies": 2}
    manifest = DatasetReader(house.host.store, version.digest).manifest
    assert [one["step"] for one in manifest.steps][-1] == "split"
    assert manifest.steps[-1] == {"step": "split", "seed": "anneal-split", "test": 0.15, "validation": 0.1}
    value = house.host.runtime.metrics.registry.get_sample_value
    assert value("anneal_rows_total", {"kind": "curate", "verdict": "removed", "reason": "empty_answer"}) == 1


async def test_decontamination_keeps_splits_and_test_rows(house: House) -> None:
    item = asked("Count up to sixteen, please", WORDS)
    leak = [asked("count UP to sixteen,  please", "no"), asked("Numbers?", f"Here: {WORDS}")]
    source = await house.publish("split-rows", {"train": [*many(5), leak[0]], "validation": [leak[1]], "test": [item]})
    benchmark = await house.benchmark("numbers", [item, *many(30)[20:]])
    version = await house.curated(step("decontaminate", benchmarks=[benchmark.name]), sources=[source.name])
    assert dict(version.split_row_counts) == {"train": 5, "test": 1}
    assert list(version.decontaminated_against) == [benchmark.dataset_digest]
    removed = {row["removed_reason"]: row for row in house.rows(version, part="removed")}
    assert set(removed) == {"exact_match", "ngram_overlap"}
    assert {row["removed_duplicate_of"] for row in removed.values()} == {item["id"]}
    assert json.loads(removed["ngram_overlap"]["removed_numbers"]) == {
        "benchmark": benchmark.name,
        "ngram": 13,
        "shared": 4,
    }
    assert DatasetReader(house.host.store, version.digest).manifest.statistics["decontamination"] == [
        {
            "step": "decontaminate",
            "benchmark": benchmark.name,
            "items": 11,
            "common_ngrams": 0,
            "prompt_only_items": 0,
        }
    ]


async def test_an_item_that_cannot_be_indexed_refuses_the_order(house: House) -> None:
    source = await house.publish("raw", {"train": many()})
    benchmark = await house.benchmark("faces", [asked("😀 😀", "🎉"), *many(3)])
    call = house.curation.CurateDataset(
        order(step("decontaminate", benchmarks=[benchmark.name]), sources=[source.name])
    )
    assert await refused(call) == ("FAILED_PRECONDITION", "INDEX_INCOMPLETE", [])


async def test_a_benchmark_that_is_all_wording_is_refused_or_compared_by_prompt(house: House) -> None:
    source = await house.publish("raw", {"train": many()})
    benchmark = await house.benchmark("same", [asked(WORDS, "yes", f"{n}.html") for n in range(12)])
    blind = step("decontaminate", benchmarks=[benchmark.name], methods=["ngram"])
    call = house.curation.CurateDataset(order(blind, sources=[source.name]))
    assert await refused(call) == ("FAILED_PRECONDITION", "INDEX_INCOMPLETE", [])
    version = await house.curated(step("decontaminate", benchmarks=[benchmark.name]), sources=[source.name])
    (cover,) = DatasetReader(house.host.store, version.digest).manifest.statistics["decontamination"]
    assert (cover["items"], cover["prompt_only_items"]) == (12, 12)


async def test_rows_with_splits_are_not_split_again(house: House) -> None:
    source = await house.publish("halves", {"train": many(3), "test": many(5)[3:]})
    call = house.curation.CurateDataset(order(step("split"), sources=[source.name]))
    assert await refused(call) == ("FAILED_PRECONDITION", "ALREADY_SPLIT", [])


async def test_what_is_missing_is_named(house: House) -> None:
    source = await house.publish("raw", {"train": many()})
    gone = "projects/p/datasets/nothing/versions/latest"
    call = house.curation.CurateDataset(order(step("split"), sources=[source.name, gone]))
    assert (await refused(call))[:2] == ("NOT_FOUND", "DATASET_VERSION_MISSING")
    absent = step("decontaminate", benchmarks=["projects/p/benchmarks/absent"])
    call = house.curation.CurateDataset(order(absent, sources=[source.name]))
    assert (await refused(call))[:2] == ("NOT_FOUND", "BENCHMARK_MISSING")


async def test_preferences_are_judged_by_both_answers_or_refused_by_name(house: House) -> None:
    rows = [
        compared("What is a lamp?", "A light that stands on a table.", "I am sorry, but I cannot help with that."),
        compared("What is a lamp?", "A light that stands on a table.", "I am sorry, but I cannot help with that."),
        compared("What is a fuse?", "As an AI language model, I cannot say.", "It guards a circuit."),
        compared("What is a plug?", None, "I am sorry, but I cannot help with that."),
        compared("What is a cable?", "It carries current from here to there.", "secret word"),
        compared("", "An answer.", None),
    ]
    source = await house.publish("pairs", {"train": rows}, kind="preference")
    steps = [step("format"), step("refusals"), step("exact_duplicates"), step("keywords", exclude=["secret word"])]
    version = await house.curated(*steps, step("split"), sources=[source.name], dataset="pairs-curated")
    assert version.kind == dataset_pb2.DATASET_KIND_PREFERENCE
    reader = DatasetReader(house.host.store, version.digest)
    assert {row["messages"][0]["content"] for row in reader.table().to_pylist()} == {
        *("What is a lamp?", "What is a plug?", "")
    }
    assert dict(reader.manifest.removed) == {
        ("refusals", "assistant_boilerplate"): 1,
        ("exact_duplicates", "exact_duplicate"): 1,
        ("keywords", "excluded_keyword"): 1,
    }
    judge = {"base_url": "http://127.0.0.1:9/v1", "model": "m"}
    for name, params in (("contradictions", {}), ("llm_judge", {"judge": judge}), ("pairwise_judge", {"judge": judge})):
        call = house.curation.CurateDataset(order(step(name, **params), sources=[source.name]))
        assert await refused(call) == ("INVALID_ARGUMENT", "INVALID_REQUEST", ["steps[0].step"]), name


async def test_sources_of_two_kinds_do_not_mix(house: House) -> None:
    rows = await house.publish("raw", {"train": many()})
    pages = await house.publish("pages", {"train": [page("Some text.")]}, kind="document")
    call = house.curation.CurateDataset(order(step("length", min_answer_words=1), sources=[rows.name, pages.name]))
    assert await refused(call) == ("INVALID_ARGUMENT", "INVALID_REQUEST", ["sources[1]"])


@pytest.mark.parametrize(
    ("steps", "fields"),
    [
        ([step("magic")], ["steps[0].step"]),
        ([step("format"), step("fuzzy_duplicates", threshold=1.5)], ["steps[1].params.threshold"]),
        (
            [step("fuzzy_duplicates", threshold="high", ngram=2.5)],
            ["steps[0].params.threshold", "steps[0].params.ngram"],
        ),
        ([step("length", min_answer_words=5, max_answer_words=4)], ["steps[0].params.max_answer_words"]),
        ([step("length")], ["steps[0].params.min_answer_characters"]),
        ([step("length", min_words=5)], ["steps[0].params.min_words", "steps[0].params.min_answer_characters"]),
        ([step("keywords", exclude=["x", " "])], ["steps[0].params.exclude[1]"]),
        ([step("keywords", exclude=[7])], ["steps[0].params.exclude[0]"]),
        ([step("exact_duplicates", part="title")], ["steps[0].params.part"]),
        ([step("split", test=0.9, validation=0.1)], ["steps[0].params.validation"]),
        ([step("split"), step("split")], ["steps[1].step"]),
        ([step("format", answer="xml")], ["steps[0].params.answer"]),
        ([step("decontaminate")], ["steps[0].params.benchmarks"]),
        ([step("decontaminate", benchmarks=["numbers"])], ["steps[0].params.benchmarks[0]"]),
    ],
)
async def test_every_wrong_setting_is_named(house: House, steps: list[pb.CurationStep], fields: list[str]) -> None:
    call = house.curation.CurateDataset(order(*steps, sources=["projects/p/datasets/raw/versions/latest"]))
    assert await refused(call) == ("INVALID_ARGUMENT", "INVALID_REQUEST", fields)


async def test_wrong_names_are_named(house: House) -> None:
    request = pb.CurateDatasetRequest(parent="p", dataset_id="Rows", sources=["raw", "raw"], steps=[step("format")])
    code, _, fields = await refused(house.curation.CurateDataset(request))
    assert (code, fields) == ("INVALID_ARGUMENT", ["parent", "dataset_id", "sources[0]", "sources[1]", "sources[1]"])


async def test_a_request_id_gives_the_same_job_and_refuses_other_content(house: House) -> None:
    source = await house.publish("raw", {"train": many()})
    request = order(step("format"), sources=[source.name])
    request.request_id = str(uuid.uuid4())
    first = await house.curation.CurateDataset(request)
    assert (await house.curation.CurateDataset(request)).name == first.name
    request.dataset_id = "other"
    assert (await refused(house.curation.CurateDataset(request)))[:2] == ("ALREADY_EXISTS", "REQUEST_ID_REUSED")
    await house.finished(first)


async def test_validate_only_starts_nothing(house: House) -> None:
    source = await house.publish("raw", {"train": many()})
    request = order(step("format"), sources=[source.name])
    request.parent, request.validate_only = "projects/quiet", True
    answer = await house.curation.CurateDataset(request)
    assert (answer.done, answer.name) == (True, "")
    listed = await house.operations.ListOperations(operations_pb2.ListOperationsRequest(name="projects/quiet"))
    assert not listed.operations


async def test_rows_that_mean_the_same_leave_by_the_encoder_of_the_order(house: House) -> None:
    near = [asked("How do I reset my password?", "By mail."), asked("How do I reset my password", "By  mail!")]
    source = await house.publish("meanings", {"train": [*many(), *near]})
    wanted = step("semantic_duplicates", threshold=0.9, encoder={"kind": "hashing", "dimension": 1024})
    version = await house.curated(wanted, sources=[source.name])
    (gone,) = [row for row in house.rows(version, part="removed") if row["id"] in {one["id"] for one in near}]
    assert gone["removed_reason"] == "semantic_duplicate"
    manifest = DatasetReader(house.host.store, version.digest).manifest
    assert manifest.steps[0]["encoder"] == {"kind": "hashing", "dimension": 1024}
    assert manifest.statistics["encoders"] == [
        {"step": "semantic_duplicates", "key": "hashing:1:1024", "dimension": 1024}
    ]


async def test_a_clustering_that_compares_all_rows_refuses_too_many(house: House) -> None:
    rows = [asked(f"What is {n}?", f"It is {n * n}.", f"{n}.html") for n in range(10_001)]
    source = await house.publish("large", {"train": rows})
    wanted = step("semantic_duplicates", clustering="agglomerative", threshold=1, encoder={"kind": "hashing"})
    done = await house.finished(await house.curation.CurateDataset(order(wanted, sources=[source.name])))
    found = decode_status(done.error)
    assert found is not None
    assert (found.reason, found.facts["allowed"]) == ("TOO_MANY_ROWS", "10000")


async def test_an_empty_dataset_stays_empty(house: House) -> None:
    source = await house.publish("empty", {"train": []})
    steps = [step("length", min_answer_words=1), step("exact_duplicates"), step("fuzzy_duplicates"), step("split")]
    version = await house.curated(*steps, sources=[source.name], allow_empty=True)
    assert (version.input_row_count, version.row_count) == (0, 0)


async def test_a_version_without_rows_is_made_only_where_that_is_allowed(house: House) -> None:
    source = await house.publish("raw", {"train": many(6)})
    steps = [step("keywords", exclude=["a number nobody has"]), step("length", min_answer_words=9_000)]
    failed = await house.finished(await house.curation.CurateDataset(order(*steps, sources=[source.name])))
    refused_with = decode_status(failed.error)
    assert refused_with is not None
    assert refused_with.reason == "DATASET_EMPTY"
    assert "6 by length: answer_too_short" in failed.error.message
    version = await house.curated(*steps, sources=[source.name], allow_empty=True)
    assert (version.row_count, len(house.rows(version, part="removed"))) == (0, 6)


async def test_documents_are_curated_too(house: House) -> None:
    pages = [page(WORDS, "a"), page(f"{WORDS}!", "b"), page("Too short.", "c")]
    source = await house.publish("docs", {"train": pages}, kind="document")
    steps = [step("length", min_answer_words=3), step("format"), step("fuzzy_duplicates"), step("split")]
    version = await house.curated(*steps, sources=[source.name], dataset="curated-docs")
    assert version.kind == dataset_pb2.DATASET_KIND_DOCUMENT
    assert (version.input_row_count, version.row_count) == (3, 1)
    assert [row["id"] for row in house.rows(version)] == [pages[1]["id"]]
