"""CompareModels over a real channel."""

from __future__ import annotations

import grpc
import pytest

from anneal.kit.rpc.status import refusal_of
from anneal.v1 import evaluation_service_pb2 as pb
from tests.contract.evaluation.world import METRICS, PROJECT, World, repeat_rows


def order(evaluation: str = "tuned", baseline: str = "base", parent: str = PROJECT) -> pb.CompareModelsRequest:
    return pb.CompareModelsRequest(
        parent=parent,
        evaluation=f"{PROJECT}/evaluations/{evaluation}",
        baseline=f"{PROJECT}/evaluations/{baseline}",
    )


async def test_two_evaluations_are_paired_row_by_row(world: World) -> None:
    await world.evaluate(world.order("base", target=world.model.name))
    tuned = await world.evaluate(world.order("tuned", baseline=f"{PROJECT}/evaluations/base"))
    compared = await world.evaluation.CompareModels(order())
    assert tuple(result.metric for result in compared.results) == METRICS
    assert list(compared.results) == list(tuned.results)
    back = await world.evaluation.CompareModels(order("base", "tuned"))
    gains = {result.metric: result.gain.value for result in back.results if result.HasField("gain")}
    assert gains == pytest.approx({"exact_match": -1, "token_f1": -1, "perplexity": -1.5})


async def test_nothing_in_common_is_refused(world: World) -> None:
    await world.benchmark("other", repeat_rows(12, row1="other"))
    await world.evaluate(world.order("base", target=world.model.name, suite="likelihood"))
    await world.evaluate(world.order("tuned", benchmarks=[f"{PROJECT}/benchmarks/other"], suite="likelihood"))
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await world.evaluation.CompareModels(order())
    refusal = refusal_of(caught.value)
    assert refusal is not None
    assert (caught.value.code(), refusal.reason) == (grpc.StatusCode.FAILED_PRECONDITION, "NOTHING_IN_COMMON")


@pytest.mark.parametrize(
    ("request_", "code", "reason"),
    [
        (order("none"), grpc.StatusCode.NOT_FOUND, "EVALUATION_MISSING"),
        (order("Über"), grpc.StatusCode.INVALID_ARGUMENT, "INVALID_REQUEST"),
        (order(parent="projects/other"), grpc.StatusCode.INVALID_ARGUMENT, "INVALID_REQUEST"),
    ],
)
async def test_refusals(world: World, request_: pb.CompareModelsRequest, code: grpc.StatusCode, reason: str) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await world.evaluation.CompareModels(request_)
    refusal = refusal_of(caught.value)
    assert refusal is not None
    assert (caught.value.code(), refusal.reason) == (code, reason)
