from __future__ import annotations

from typing import Any

import pytest

from anneal.kit.policies import policy_digest
from anneal.v1 import evaluation_pb2
from anneal.v1 import registry_service_pb2 as pb
from tests.contract.registry.world import (
    ABSENT,
    GO,
    NO_GO,
    POLICY,
    PROJECT,
    RULE,
    World,
    new_id,
    reason,
    violation,
)

pytestmark = pytest.mark.asyncio(loop_scope="session")


def measuring(data_name: str, benchmark_id: str = "b", **changes: Any) -> pb.CreateBenchmarkRequest:
    values: dict[str, Any] = {
        "dataset_version": data_name,
        "split": "test",
        "metrics": ["exact_match"],
        "max_tokens": 8,
        **changes,
    }
    benchmark = evaluation_pb2.Benchmark(name="-", **values)
    return pb.CreateBenchmarkRequest(parent=PROJECT, benchmark_id=benchmark_id, benchmark=benchmark)


async def test_a_benchmark_says_what_it_holds(world: World) -> None:
    data = await world.dataset_version(world.manifest(["a"], test=["b", "c"]))
    request = measuring(f"{PROJECT}/datasets/qa/versions/latest", row_count=99, answer_format="json")
    made = await world.stub.CreateBenchmark(request)
    assert (made.name, made.dataset_version) == (f"{PROJECT}/benchmarks/b", data.name)
    assert (made.dataset_digest, made.row_count, made.answer_format) == (data.digest, 2, "json")
    assert await world.stub.GetBenchmark(pb.GetBenchmarkRequest(name=made.name)) == made


async def test_a_benchmarks_refusals(world: World) -> None:
    data = await world.dataset_version(world.manifest(["a"], test=["b"]))
    request = measuring(data.name)
    request.request_id = new_id()
    first = await world.stub.CreateBenchmark(request)
    assert await world.stub.CreateBenchmark(request) == first
    request.benchmark.max_tokens = 9
    assert await reason(world.stub.CreateBenchmark(request)) == ("EXISTS", "REQUEST_ID_REUSED")
    assert await reason(world.stub.CreateBenchmark(measuring(data.name))) == ("EXISTS", "BENCHMARK_EXISTS")
    empty = measuring(data.name, "c", split="validation")
    assert await reason(world.stub.CreateBenchmark(empty)) == ("NOT_YET", "BENCHMARK_EMPTY")
    gone = measuring(f"{PROJECT}/datasets/qa/versions/{'0' * 12}", "c")
    assert await reason(world.stub.CreateBenchmark(gone)) == ("MISSING", "DATASET_VERSION_MISSING")
    wrong: list[tuple[dict[str, Any], str]] = [
        ({"max_tokens": 0}, "max_tokens"),
        ({"answer_format": "xml"}, "answer_format"),
        ({"metrics": []}, "metrics"),
    ]
    for changes, field in wrong:
        call = world.stub.CreateBenchmark(measuring(data.name, "c", **changes))
        assert await violation(call) == f"benchmark.{field}"
    pairs = await world.dataset_version(world.preferences("q"), "pairs")
    assert await violation(world.stub.CreateBenchmark(measuring(pairs.name, "c"))) == "benchmark.dataset_version"
    missing = pb.GetBenchmarkRequest(name=f"{PROJECT}/benchmarks/none")
    assert await reason(world.stub.GetBenchmark(missing)) == ("MISSING", "BENCHMARK_MISSING")


async def test_benchmarks_are_paged_newest_first_without_dry_runs(world: World) -> None:
    data = await world.dataset_version(world.manifest(["a"], test=["b"]))
    for i in range(3):
        await world.stub.CreateBenchmark(measuring(data.name, f"b{i}"))
    dry = measuring(data.name, "dry")
    dry.validate_only = True
    await world.stub.CreateBenchmark(dry)
    first = await world.stub.ListBenchmarks(pb.ListBenchmarksRequest(parent=PROJECT, page_size=2))
    rest = pb.ListBenchmarksRequest(parent=PROJECT, page_size=2, page_token=first.next_page_token)
    second = await world.stub.ListBenchmarks(rest)
    assert [b.name[-2:] for b in [*first.benchmarks, *second.benchmarks]] == ["b2", "b1", "b0"]


async def test_an_evaluation_is_kept_whole(world: World) -> None:
    _, _, adapter = await world.settled()
    results = [
        evaluation_pb2.MetricResult(
            benchmark=RULE.benchmark,
            metric="exact_match",
            estimate=evaluation_pb2.Estimate(value=0.0, scored_count=40),
        )
    ]
    made = await world.evaluate(adapter, results=results, rows_digest=world.store.put_bytes(b"rows"))
    assert made.name == f"{PROJECT}/evaluations/e1"
    assert made.results[0].estimate.HasField("value")
    assert not made.results[0].estimate.HasField("stderr")
    assert (made.verdict, made.policy_digest) == (GO, policy_digest(POLICY))
    assert await world.stub.GetEvaluation(pb.GetEvaluationRequest(name=made.name)) == made


async def test_a_base_model_is_evaluated_without_a_policy_and_is_a_baseline(world: World) -> None:
    _, model, adapter = await world.settled()
    base = evaluation_pb2.Evaluation(target=model.name, target_digest=model.digest, base_model_digest=model.digest)
    request = pb.CreateEvaluationRequest(parent=PROJECT, evaluation_id="base", evaluation=base)
    made = await world.stub.CreateEvaluation(request)
    assert (made.policy_digest, made.verdict) == ("", evaluation_pb2.VERDICT_UNSPECIFIED)
    assert (await world.evaluate(adapter, baseline=made.name)).baseline == made.name


async def test_the_policys_digest_is_filled_in(world: World) -> None:
    _, _, adapter = await world.settled()
    assert (await world.evaluate(adapter, policy_digest="")).policy_digest == policy_digest(POLICY)


async def test_an_evaluations_refusals(world: World) -> None:
    _, _, adapter = await world.settled()
    await world.evaluate(adapter)
    assert await reason(world.evaluate(adapter)) == ("EXISTS", "EVALUATION_EXISTS")
    nobody = f"{PROJECT}/adapters/bot/versions/{'0' * 12}"
    assert await reason(world.evaluate(adapter, "e2", target=nobody)) == ("MISSING", "ADAPTER_VERSION_MISSING")
    none = f"{PROJECT}/models/none"
    assert await reason(world.evaluate(adapter, "e2", target=none)) == ("MISSING", "MODEL_MISSING")
    for field in ("target_digest", "base_model_digest"):
        call = world.evaluate(adapter, "e2", **{field: ABSENT})
        assert await reason(call) == ("NOT_YET", "TARGET_MISMATCH")
    unknown = evaluation_pb2.MetricResult(benchmark=f"{PROJECT}/benchmarks/none", metric="exact_match")
    assert await reason(world.evaluate(adapter, "e2", results=[unknown])) == ("MISSING", "BENCHMARK_MISSING")
    baseline = f"{PROJECT}/evaluations/none"
    assert await reason(world.evaluate(adapter, "e2", baseline=baseline)) == ("MISSING", "EVALUATION_MISSING")
    assert await reason(world.evaluate(adapter, "e2", rows_digest=ABSENT)) == ("NOT_YET", "FILES_MISSING")
    assert await violation(world.evaluate(adapter, "e2", target="bot")) == "evaluation.target"
    missing = pb.GetEvaluationRequest(name=f"{PROJECT}/evaluations/none")
    assert await reason(world.stub.GetEvaluation(missing)) == ("MISSING", "EVALUATION_MISSING")


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"rule_results": []}, "rule_results"),
        ({"rule_results": [evaluation_pb2.RuleResult(rule=RULE, verdict=NO_GO)]}, "verdict"),
        ({"policy_digest": ABSENT}, "policy_digest"),
        ({"policy": None, "policy_digest": "", "rule_results": []}, "verdict"),
        ({"policy": evaluation_pb2.Policy(), "policy_digest": "", "rule_results": []}, "policy.rules"),
    ],
)
async def test_a_go_that_does_not_follow_is_refused(world: World, changes: dict[str, Any], field: str) -> None:
    _, _, adapter = await world.settled()
    assert await violation(world.evaluate(adapter, **changes)) == f"evaluation.{field}"


async def test_evaluations_are_paged_and_answered_twice_the_same(world: World) -> None:
    _, _, adapter = await world.settled()
    for i in range(2):
        await world.evaluate(adapter, f"e{i}")
    request = pb.CreateEvaluationRequest(
        parent=PROJECT, evaluation_id="e2", evaluation=world.new_evaluation(adapter), request_id=new_id()
    )
    assert await world.stub.CreateEvaluation(request) == await world.stub.CreateEvaluation(request)
    request.evaluation_id = "e3"
    assert await reason(world.stub.CreateEvaluation(request)) == ("EXISTS", "REQUEST_ID_REUSED")
    request.request_id, request.validate_only = "", True
    await world.stub.CreateEvaluation(request)
    first = await world.stub.ListEvaluations(pb.ListEvaluationsRequest(parent=PROJECT, page_size=2))
    rest = pb.ListEvaluationsRequest(parent=PROJECT, page_size=2, page_token=first.next_page_token)
    second = await world.stub.ListEvaluations(rest)
    assert [e.name[-2:] for e in [*first.evaluations, *second.evaluations]] == ["e2", "e1", "e0"]
