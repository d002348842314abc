"""What decontamination took, and which versions and adapters a benchmark touches that came later."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import grpc
import pytest

from anneal.v1 import adapter_pb2, contamination_pb2, model_pb2
from anneal.v1 import registry_service_pb2 as registry_pb
from tests.contract.curation.house import PROJECT, House, asked, refusal, running, step

WORDS = [f"w{n}" for n in range(60)]
EXAM = [asked(" ".join(WORDS[n : n + 20]), f"answer {n}", "exam.html") for n in (0, 20)]
TOUCHING = [
    EXAM[0],
    asked("something else", "before " + " ".join(WORDS[20:36]) + " after", "a.html"),
]
CLEAN = [asked("how are you", "fine", "b.html"), asked("and now", "fine, too", "exam-2.html")]


async def checked(house: House, **order: Any) -> contamination_pb2.CheckContaminationResponse:
    request = contamination_pb2.CheckContaminationRequest(parent=PROJECT, **order)
    done = await house.finished(await house.curation.CheckContamination(request))
    assert not done.HasField("error"), done.error
    found = contamination_pb2.CheckContaminationResponse()
    assert done.response.Unpack(found)
    return found


async def train(house: House, dataset_version: str) -> str:
    """Register an adapter as trained on a version."""
    digest = house.host.store.put_bytes(b"model")
    model = model_pb2.Model(name="-", digest=digest, architecture="LlamaForCausalLM")
    made = await house.registry.CreateModel(
        registry_pb.CreateModelRequest(parent=PROJECT, model_id="tiny", model=model)
    )
    parity = adapter_pb2.ParityCertificate(
        passed=True, sample_count=1, token_count=9, token_ids_equal=True, tolerance=1e-5, dtype="float32"
    )
    version = adapter_pb2.AdapterVersion(
        digest=house.host.store.put_bytes(b"weights"),
        base_model=made.name,
        base_model_digest=made.digest,
        rank=8,
        alpha=16,
        target_modules=["q_proj"],
        dataset_versions=[dataset_version],
        method="lora",
        parity=parity,
    )
    request = registry_pb.CreateAdapterVersionRequest(parent=f"{PROJECT}/adapters/bot", adapter_version=version)
    return str((await house.registry.CreateAdapterVersion(request)).name)


async def test_a_benchmark_that_came_later_tells_what_it_touches(tmp_path: Path) -> None:
    async with running(tmp_path) as house:
        touched = await house.publish("touched", {"train": [*TOUCHING, *CLEAN], "test": [EXAM[1]]})
        clean = await house.publish("clean", {"train": CLEAN, "test": EXAM})
        adapter = await train(house, touched.name)
        exam = await house.benchmark("exam", EXAM)
        other = await house.benchmark("other", [asked("a question of its own kind", "yes", "other.html")])
        found = await checked(house)
        assert list(found.benchmarks) == sorted([exam.name, other.name])
        assert found.checked_version_count == 4
        (one,) = found.versions
        assert (one.dataset_version, list(one.adapter_versions)) == (touched.name, [adapter])
        (table,) = one.benchmarks
        assert (table.benchmark, table.item_count, table.row_count) == (exam.name, 2, 2)
        assert dict(table.row_counts) == {"exact_match": 1, "ngram_overlap": 1}
        by_reason = {example.reason: example for example in table.examples}
        example = by_reason["ngram_overlap"]
        assert (example.row_id, example.item_id) == (TOUCHING[1]["id"], EXAM[1]["id"])
        assert example.shared_words == " ".join(WORDS[20:36])
        assert "before w20" in example.row_excerpt
        assert example.item_excerpt.startswith("w20 w21")
        # Only what is asked for, and as it is asked for.
        assert not (await checked(house, dataset_versions=[clean.name])).versions
        order = contamination_pb2.CheckContaminationRequest(benchmarks=[exam.name], dataset_versions=[touched.name])
        order.params.update({"methods": ["exact"]})
        narrow = await checked(house, **{name.name: value for name, value in order.ListFields()})
        assert dict(narrow.versions[0].benchmarks[0].row_counts) == {"exact_match": 1}


async def test_what_decontamination_took_is_told_with_examples(tmp_path: Path) -> None:
    async with running(tmp_path) as house:
        source = await house.publish("raw", {"train": [*TOUCHING, *CLEAN], "test": [EXAM[1]]})
        exam = await house.benchmark("exam", EXAM)
        methods = ["exact", "ngram", "fuzzy", "semantic", "source"]
        version = await house.curated(step("decontaminate", benchmarks=["*"], methods=methods), sources=[source.name])
        assert version.row_count == len(CLEAN) + 1
        assert {row["id"] for row in house.rows(version, "test")} == {EXAM[1]["id"]}
        report = await house.curation.GetContaminationReport(
            contamination_pb2.GetContaminationReportRequest(dataset_version=version.name)
        )
        assert (report.dataset_version, report.decontaminated) == (version.name, True)
        (table,) = report.benchmarks
        assert (table.benchmark, table.item_count, table.row_count) == (exam.name, 2, 2)
        assert [example.row_id for example in table.examples] == sorted(row["id"] for row in TOUCHING)
        before = await house.curation.GetContaminationReport(
            contamination_pb2.GetContaminationReportRequest(dataset_version=source.name)
        )
        assert (before.decontaminated, len(before.benchmarks)) == (False, 0)


async def test_a_project_without_benchmarks_is_compared_with_none(tmp_path: Path) -> None:
    async with running(tmp_path) as house:
        source = await house.publish("raw", {"train": CLEAN})
        version = await house.curated(step("decontaminate", benchmarks=["*"]), sources=[source.name])
        assert (version.row_count, list(version.decontaminated_against)) == (len(CLEAN), [])
        assert not (await checked(house)).benchmarks


async def test_orders_that_cannot_be_are_refused(tmp_path: Path) -> None:
    async with running(tmp_path) as house:
        source = await house.publish("raw", {"train": CLEAN})
        await house.benchmark("blank", [asked("😀", "", "b.html")])
        order = contamination_pb2.CheckContaminationRequest

        async def refused(request: contamination_pb2.CheckContaminationRequest) -> tuple[str, str, list[str]]:
            with pytest.raises(grpc.aio.AioRpcError) as raised:
                await house.curation.CheckContamination(request)
            return refusal(raised.value)

        code, reason, _ = await refused(order(parent=PROJECT))
        assert (code, reason) == ("FAILED_PRECONDITION", "INDEX_INCOMPLETE")
        code, reason, _ = await refused(order(parent=PROJECT, benchmarks=[f"{PROJECT}/benchmarks/none"]))
        assert (code, reason) == ("NOT_FOUND", "BENCHMARK_MISSING")
        missing = f"{source.name.rpartition('/')[0]}/{'0' * 12}"
        code, reason, _ = await refused(order(parent=PROJECT, dataset_versions=[missing]))
        assert (code, reason) == ("NOT_FOUND", "DATASET_VERSION_MISSING")
        wrong = order(parent="p", dataset_versions=["raw"])
        wrong.params.update({"fuzzy_threshold": 2, "benchmarks": ["x"]})
        assert (await refused(wrong))[2] == [
            "parent",
            "dataset_versions[0]",
            "params.benchmarks",
            "params.fuzzy_threshold",
        ]
