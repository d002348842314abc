"""What EvaluateModel refuses, and its verdicts; one server for all, since nothing here disturbs another test."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import grpc
import pytest
import pytest_asyncio

from anneal.evaluation.bootstrap import build as build_evaluation
from anneal.kit.rpc.channels import open_aio_channel
from anneal.kit.rpc.server import Build
from anneal.kit.testing import hosted
from anneal.registry.bootstrap import build as build_registry
from anneal.v1 import evaluation_pb2
from anneal.v1 import registry_service_pb2 as registry_pb2
from tests.contract.evaluation.fake_serving import FakeServing
from tests.contract.evaluation.world import PROJECT, WORDS, World, document_rows, policy, refused, repeat_rows

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def world(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[World]:
    serving = FakeServing()  # type: ignore[abstract]  # what it leaves out answers UNIMPLEMENTED
    builds: list[Build] = [build_registry, build_evaluation, serving.build]
    async with (
        hosted(tmp_path_factory.mktemp("world"), builds) as host,
        open_aio_channel(host.address) as channel,
    ):
        found = World(host, channel)
        await found.fill()
        yield found


async def test_validate_only_starts_nothing(world: World) -> None:
    answer = await world.evaluation.EvaluateModel(world.order("first", validate_only=True))
    preview = evaluation_pb2.Evaluation()
    assert answer.response.Unpack(preview)
    assert (answer.name, preview.target_digest) == ("", world.adapter.digest)
    assert not (await world.registry.ListEvaluations(registry_pb2.ListEvaluationsRequest(parent=PROJECT))).evaluations


async def test_a_taken_name_is_refused(world: World) -> None:
    await world.evaluate(world.order("taken", suite="likelihood"))
    code, reason, _ = await refused(world.evaluation.EvaluateModel(world.order("taken")))
    assert (code, reason) == (grpc.StatusCode.ALREADY_EXISTS, "EVALUATION_EXISTS")


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"target": f"{PROJECT}/models/none"}, "MODEL_MISSING"),
        ({"target": f"{PROJECT}/adapters/echo/versions/000000000000"}, "ADAPTER_VERSION_MISSING"),
        ({"benchmarks": [f"{PROJECT}/benchmarks/none"]}, "BENCHMARK_MISSING"),
        ({"baseline": f"{PROJECT}/evaluations/none"}, "EVALUATION_MISSING"),
    ],
)
async def test_what_is_missing_is_refused_at_once(world: World, changes: dict[str, Any], reason: str) -> None:
    code, said, _ = await refused(world.evaluation.EvaluateModel(world.order("first", **changes)))
    assert (code, said) == (grpc.StatusCode.NOT_FOUND, reason)


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"parent": "test"}, "parent"),
        ({"evaluation_id": "Über"}, "evaluation_id"),
        ({"evaluation_id": ""}, "evaluation_id"),
        ({"benchmarks": []}, "benchmarks"),
        ({"benchmarks": [WORDS, WORDS]}, "benchmarks[1]"),
        ({"benchmarks": ["projects/other/benchmarks/words"]}, "benchmarks[0]"),
        ({"target": f"{PROJECT}/datasets/d"}, "target"),
        ({"baseline": "nothing"}, "baseline"),
        ({"suite": "everything"}, "suite"),
        ({"max_rows": -1}, "max_rows"),
        ({"policy": evaluation_pb2.Policy()}, "policy"),
        ({"policy": policy()}, "policy.rules[0]"),
        ({"policy": policy(min_gain=float("nan"))}, "policy.rules[0]"),
        ({"policy": policy(min_value=2.0, max_value=1.0)}, "policy.rules[0]"),
        (
            {
                "policy": evaluation_pb2.Policy(
                    rules=[evaluation_pb2.PolicyRule(benchmark=WORDS, metric="bleurt", min_value=1)]
                )
            },
            "policy.rules[0].metric",
        ),
        (
            {
                "policy": evaluation_pb2.Policy(
                    rules=[evaluation_pb2.PolicyRule(benchmark=WORDS, metric="latency", max_value=1)]
                )
            },
            "policy.rules[0].metric",
        ),
        (
            {
                "policy": evaluation_pb2.Policy(
                    rules=[
                        evaluation_pb2.PolicyRule(benchmark=f"{PROJECT}/benchmarks/x", metric="token_f1", min_value=1)
                    ]
                )
            },
            "policy.rules[0].benchmark",
        ),
    ],
)
async def test_wrong_fields_are_named(world: World, changes: dict[str, Any], field: str) -> None:
    code, _, fields = await refused(world.evaluation.EvaluateModel(world.order("first", **changes)))
    assert code == grpc.StatusCode.INVALID_ARGUMENT
    assert any(found.startswith(field) for found in fields), fields


async def test_a_benchmark_with_a_metric_nobody_knows_is_refused(world: World) -> None:
    await world.benchmark("odd", repeat_rows(3), metrics=("vibes",))
    order = world.order("first", benchmarks=[f"{PROJECT}/benchmarks/odd"])
    code, _, fields = await refused(world.evaluation.EvaluateModel(order))
    assert (code, fields) == (grpc.StatusCode.INVALID_ARGUMENT, ["benchmarks[0]"])


async def test_a_benchmark_of_documents_fails_the_job_with_its_field(world: World) -> None:
    await world.benchmark("pages", document_rows(), kind="document")
    order = world.order("first", benchmarks=[f"{PROJECT}/benchmarks/pages"])
    ended = await world.wait(await world.evaluation.EvaluateModel(order))
    assert ended.error.code == grpc.StatusCode.INVALID_ARGUMENT.value[0]


async def test_a_baseline_that_measured_something_else_is_refused(world: World) -> None:
    await world.benchmark("other", repeat_rows(12, row1="other"))
    base = await world.evaluate(world.order("base", target=world.model.name, suite="likelihood"))
    order = world.order("first", baseline=base.name, benchmarks=[f"{PROJECT}/benchmarks/other"])
    code, _, fields = await refused(world.evaluation.EvaluateModel(order))
    assert (code, fields) == (grpc.StatusCode.INVALID_ARGUMENT, ["baseline"])


@pytest.mark.parametrize(
    ("bounds", "verdict"),
    [
        ({"min_gain": 0.0}, evaluation_pb2.VERDICT_GO),
        ({"min_gain": 1.0}, evaluation_pb2.VERDICT_NO_GO),
        ({"min_value": 1.0}, evaluation_pb2.VERDICT_GO),
        ({"max_loss": 0.0}, evaluation_pb2.VERDICT_GO),
        ({"max_value": 0.5}, evaluation_pb2.VERDICT_NO_GO),
    ],
)
async def test_verdicts(world: World, bounds: dict[str, float], verdict: evaluation_pb2.Verdict.ValueType) -> None:
    evaluation_id = f"{'-'.join(bounds).replace('_', '-')}-{verdict}"
    evaluation = await world.evaluate(world.order(evaluation_id, policy=policy(**bounds)))
    assert evaluation.verdict == verdict
    assert [outcome.rule for outcome in evaluation.rule_results] == list(evaluation.policy.rules)
