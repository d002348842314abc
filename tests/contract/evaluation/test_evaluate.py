"""EvaluateModel over real channels, with a real registry and job processes and a fake engine."""

from __future__ import annotations

import asyncio
import uuid
from math import exp

import grpc
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from google.longrunning import operations_pb2, operations_pb2_grpc

from anneal.evaluation.domain.metrics import METRICS as ALL_METRICS
from anneal.kit.policies import policy_digest
from anneal.kit.records import conversation
from anneal.v1 import evaluation_pb2, job_service_pb2, registry_service_pb2
from anneal.v1.job_service_pb2_grpc import JobServiceStub
from tests.contract.evaluation.fake_serving import FakeServing
from tests.contract.evaluation.world import METRICS, PROJECT, WORDS, World, policy, refused, repeat_rows, results
from tests.fixtures.processes import descendants


async def test_an_adapter_without_a_baseline_is_compared_with_its_base(world: World) -> None:
    evaluation = await world.evaluate(world.order("first", policy=policy(min_gain=0.0)))
    assert evaluation.name == f"{PROJECT}/evaluations/first"
    assert (evaluation.target, evaluation.target_digest) == (world.adapter.name, world.adapter.digest)
    assert evaluation.base_model_digest == world.model.digest
    assert evaluation.operation.startswith(f"{PROJECT}/operations/evaluate-")
    found = results(evaluation)
    assert tuple(found) == METRICS
    exact = found["exact_match"]
    assert (exact.estimate.value, exact.baseline.value, exact.gain.value) == (1.0, 0.0, 1.0)
    assert (exact.estimate.scored_count, exact.estimate.unscored_count, exact.estimate.group_count) == (40, 0, 20)
    perplexity = found["perplexity"]
    assert perplexity.estimate.value == pytest.approx(exp(0.5))
    assert perplexity.baseline.value == pytest.approx(exp(2.0))
    assert perplexity.gain.value == pytest.approx(1.5)
    assert not perplexity.higher_is_better
    assert not found["length"].HasField("gain")
    assert evaluation.verdict == evaluation_pb2.VERDICT_GO
    assert evaluation.policy_digest == policy_digest(evaluation.policy)
    assert evaluation.rule_results[0].explanation == "token_f1 gain over the baseline 1 [1, 1] is above 0"


async def test_what_was_published_is_what_was_answered(world: World) -> None:
    evaluation = await world.evaluate(world.order("first", policy=policy(min_value=0.5)))
    published = await world.registry.GetEvaluation(registry_service_pb2.GetEvaluationRequest(name=evaluation.name))
    assert published == evaluation
    assert published.HasField("create_time")


async def test_a_finished_evaluation_serves_as_baseline(world: World, serving: FakeServing) -> None:
    base = await world.evaluate(world.order("base", target=world.model.name))
    assert not any(result.HasField("gain") for result in base.results)
    asked = sum(serving.chats.values())
    evaluation = await world.evaluate(world.order("tuned", baseline=base.name))
    assert sum(serving.chats.values()) == asked + 40
    assert evaluation.baseline == base.name
    assert results(evaluation)["token_f1"].gain.value == 1.0
    assert results(evaluation)["token_f1"].baseline == results(base)["token_f1"].estimate
    assert evaluation.verdict == evaluation_pb2.VERDICT_UNSPECIFIED


async def test_every_answer_and_score_is_kept(world: World) -> None:
    await world.benchmark("all-metrics", repeat_rows(40, row0="WORD"), metrics=tuple(ALL_METRICS))
    evaluation = await world.evaluate(world.order("first", benchmarks=[f"{PROJECT}/benchmarks/all-metrics"]))
    rows = pq.read_table(pa.BufferReader(world.host.store.get_bytes(evaluation.rows_digest))).to_pylist()
    assert len(rows) == 80
    row = next(row for row in rows if row["side"] == "target" and row["reference"] == "word 4 more")
    assert row["answer"] == "word 4 more"
    assert (row["finish_reason"], row["answer_tokens"], row["reference_tokens"]) == ("stop", 3, 4)
    assert row["reference_logprob"] == pytest.approx(-2.0)
    assert row["group"] == "page4"
    scores = {score["metric"]: score["value"] for score in row["scores"]}
    assert scores.pop("latency") == row["latency_s"] > 0
    assert scores == {"exact_match": 1, "token_f1": 1, "rouge_l": 1, "perplexity": 0.5, "length": 3}


async def test_rows_that_cannot_be_answered_are_unscored_with_their_cause(world: World) -> None:
    rows = repeat_rows(40, row3="LONG", row7="BUSY")
    rows.append({**rows[0], "id": "f" * 64, "messages": [{"role": "user", "content": "Repeat: x"}]})
    await world.benchmark("hard", rows)
    evaluation = await world.evaluate(world.order("first", benchmarks=[f"{PROJECT}/benchmarks/hard"]))
    exact = results(evaluation)["exact_match"]
    assert (exact.estimate.value, exact.estimate.scored_count, exact.estimate.unscored_count) == (1.0, 39, 2)
    assert results(evaluation)["perplexity"].estimate.scored_count == 40
    table = pq.read_table(pa.BufferReader(world.host.store.get_bytes(evaluation.rows_digest)))
    causes = [row["cause"] for row in table.to_pylist() if row["side"] == "target" and row["cause"]]
    assert sorted(causes) == ["NO_REFERENCE", "PROMPT_TOO_LONG"]


async def test_too_few_rows_are_inconclusive(world: World) -> None:
    evaluation = await world.evaluate(world.order("first", policy=policy(min_gain=0.0), max_rows=29))
    assert evaluation.verdict == evaluation_pb2.VERDICT_INCONCLUSIVE
    assert "29 scored rows, 30 are needed" in evaluation.rule_results[0].explanation


async def test_fewer_rows_than_the_baseline_pair_with_the_same_rows(world: World) -> None:
    base = await world.evaluate(world.order("base", target=world.model.name))
    evaluation = await world.evaluate(world.order("tuned", baseline=base.name, max_rows=10))
    gain = results(evaluation)["token_f1"].gain
    assert (gain.value, gain.scored_count, gain.unscored_count) == (1.0, 10, 0)


async def test_the_likelihood_suite_generates_nothing(world: World, serving: FakeServing) -> None:
    evaluation = await world.evaluate(world.order("first", suite="likelihood"))
    assert [result.metric for result in evaluation.results] == ["perplexity"]
    assert not serving.chats


async def test_contamination_is_told_beside_the_scores(world: World) -> None:
    await world.benchmark("unchecked", repeat_rows(12, row1="other"))
    order = world.order("first", benchmarks=[WORDS, f"{PROJECT}/benchmarks/unchecked"], suite="likelihood")
    evaluation = await world.evaluate(order)
    told = {check.benchmark: check.decontaminated for check in evaluation.contamination}
    assert told == {WORDS: True, f"{PROJECT}/benchmarks/unchecked": False}
    assert {check.dataset_version for check in evaluation.contamination} == set(world.adapter.dataset_versions)


async def test_json_answers_are_compared_as_values(world: World) -> None:
    rows = []
    for index in range(3):
        turns = [
            {"role": "user", "content": f"Repeat: [{index},2]"},
            {"role": "assistant", "content": f"[{index}, 2]"},
        ]
        rows.append(conversation(turns, source="page"))
    for answer_format, expected in (("json", 1.0), ("text", 0.0)):
        await world.benchmark(f"in-{answer_format}", rows, metrics=("exact_match",), answer_format=answer_format)
        order = world.order(answer_format, benchmarks=[f"{PROJECT}/benchmarks/in-{answer_format}"])
        assert results(await world.evaluate(order))["exact_match"].estimate.value == expected


async def test_no_more_than_the_bound_is_in_flight(world: World, serving: FakeServing) -> None:
    await world.benchmark("many", repeat_rows(200))
    await world.evaluate(world.order("first", benchmarks=[f"{PROJECT}/benchmarks/many"]))
    assert 2 <= serving.most_at_once <= 32


async def test_a_killed_job_goes_on_where_it_was(world: World, serving: FakeServing) -> None:
    serving.gate.clear()
    serving.free = 10
    operation = await world.evaluation.EvaluateModel(world.order("first", target=world.model.name))
    watch = JobServiceStub(world.channel).WatchJob(job_service_pb2.WatchJobRequest(name=operation.name))
    async for message in watch:
        if message.event.progress.done >= 10:
            break
    watch.cancel()
    first = {key for key, times in serving.chats.items() if times == 1}
    assert len(first) >= 10
    for process in descendants("anneal.kit.jobs.run"):
        process.kill()
    serving.gate.set()
    ended = await world.wait(operation)
    assert not ended.HasField("error"), ended.error
    evaluation = evaluation_pb2.Evaluation()
    assert ended.response.Unpack(evaluation)
    assert results(evaluation)["exact_match"].estimate.scored_count == 40
    metadata = job_service_pb2.JobMetadata()
    assert ended.metadata.Unpack(metadata)
    assert metadata.attempt == 2
    assert sum(times == 1 for times in serving.chats.values()) >= 10
    assert sum(serving.chats.values()) <= 40 + 32


async def test_latest_means_in_every_attempt_what_it_meant_in_the_first(world: World, serving: FakeServing) -> None:
    serving.gate.clear()
    order = world.order("first", target=world.adapter.name.rsplit("/", 1)[0] + "/latest")
    operation = await world.evaluation.EvaluateModel(order)
    async with asyncio.timeout(30):
        while not serving.chats:
            await asyncio.sleep(0.05)
    newer = await world.add_adapter("echo", b"newer", list(world.adapter.dataset_versions))
    for process in descendants("anneal.kit.jobs.run"):
        process.kill()
    serving.gate.set()
    ended = await world.wait(operation)
    assert not ended.HasField("error"), ended.error
    evaluation = evaluation_pb2.Evaluation()
    assert ended.response.Unpack(evaluation)
    assert evaluation.target == world.adapter.name != newer.name


async def test_cancel_does_not_wait_for_answers(world: World, serving: FakeServing) -> None:
    serving.gate.clear()
    serving.free = 3
    operation = await world.evaluation.EvaluateModel(world.order("first"))
    while sum(serving.chats.values()) < 10:
        await asyncio.sleep(0.05)
    await operations_pb2_grpc.OperationsStub(world.channel).CancelOperation(
        operations_pb2.CancelOperationRequest(name=operation.name)
    )
    ended = await world.wait(operation)
    assert ended.error.code == grpc.StatusCode.CANCELLED.value[0]
    code, reason, _ = await refused(
        world.registry.GetEvaluation(registry_service_pb2.GetEvaluationRequest(name=f"{PROJECT}/evaluations/first"))
    )
    assert (code, reason) == (grpc.StatusCode.NOT_FOUND, "EVALUATION_MISSING")


async def test_an_adapter_the_engine_refuses_fails_the_job_at_once(world: World, serving: FakeServing) -> None:
    serving.refused.add(world.adapter.digest)
    ended = await world.wait(await world.evaluation.EvaluateModel(world.order("first")))
    assert ended.error.code == grpc.StatusCode.FAILED_PRECONDITION.value[0]
    metadata = job_service_pb2.JobMetadata()
    assert ended.metadata.Unpack(metadata)
    assert metadata.attempt == 1


async def test_the_same_request_id_twice_is_one_job_even_after_its_end(world: World) -> None:
    order = world.order("first", request_id=str(uuid.uuid4()))
    operation = await world.evaluation.EvaluateModel(order)
    again = await world.evaluation.EvaluateModel(order)
    assert again.name == operation.name
    await world.wait(operation)
    ended = await world.evaluation.EvaluateModel(order)
    assert (ended.name, ended.done) == (operation.name, True)
    order.max_rows = 3
    code, reason, _ = await refused(world.evaluation.EvaluateModel(order))
    assert (code, reason) == (grpc.StatusCode.ALREADY_EXISTS, "REQUEST_ID_REUSED")
