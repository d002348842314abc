"""Evaluation against the real engine: its perplexities are PEFT's own, its answers are the engine's."""

from __future__ import annotations

from collections.abc import AsyncIterator
from math import exp, fsum
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import pytest_asyncio
from google.longrunning import operations_pb2, operations_pb2_grpc
from google.protobuf import duration_pb2

from anneal.evaluation.bootstrap import build as build_evaluation
from anneal.kit.datasets import DatasetWriter
from anneal.kit.digests import version_id
from anneal.kit.options import StoreOptions
from anneal.kit.records import conversation, to_table
from anneal.kit.rpc.channels import open_aio_channel
from anneal.kit.rpc.server import Host
from anneal.kit.settings import ServiceSettings
from anneal.v1 import dataset_pb2, evaluation_pb2
from anneal.v1 import evaluation_service_pb2 as pb
from anneal.v1 import inference_service_pb2 as inference_pb
from anneal.v1 import registry_service_pb2 as registry_pb
from anneal.v1.evaluation_service_pb2_grpc import EvaluationServiceStub
from tests.fixtures.serving import PROJECT, ServingWorld

if TYPE_CHECKING:
    from anneal.v1.evaluation_service_pb2_grpc import EvaluationServiceAsyncStub

pytestmark = [pytest.mark.vllm, pytest.mark.asyncio(loop_scope="session")]

METRICS = ("exact_match", "token_f1", "rouge_l", "perplexity", "length", "latency")
ROWS = [
    conversation(
        [
            {"role": "user", "content": f"What does step {i} do?"},
            {"role": "assistant", "content": "It copies" + " x" * i},
        ],
        source=f"page{i}",
    )
    for i in range(12)
]


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def evaluation_host(serving_world: ServingWorld, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Host]:
    """Evaluation on a server of its own, beside the one of registry and serving."""
    neighbour = serving_world.host
    settings = ServiceSettings(
        data_dir=tmp_path_factory.mktemp("evaluation"),
        store=StoreOptions(url=neighbour.settings.store_url()),
        addresses={"registry": neighbour.address, "serving": neighbour.address},
    )
    host = Host(settings, [build_evaluation], local=("evaluation",))
    await host.start()
    try:
        yield host
    finally:
        await host.stop()


async def register(world: ServingWorld) -> str:
    """The rows as a benchmark; returns its name."""
    writer = DatasetWriter(world.host.store, "conversation")
    writer.add(to_table("conversation", ROWS), split="test")
    manifest = writer.finish(rows_in=len(ROWS))
    version = await world.registry.CreateDatasetVersion(
        registry_pb.CreateDatasetVersionRequest(
            parent=f"{PROJECT}/datasets/evaluated",
            dataset_version=dataset_pb2.DatasetVersion(
                digest=manifest.digest, kind=dataset_pb2.DATASET_KIND_CONVERSATION
            ),
        )
    )
    benchmark = evaluation_pb2.Benchmark(dataset_version=version.name, split="test", metrics=METRICS, max_tokens=8)
    made = await world.registry.CreateBenchmark(
        registry_pb.CreateBenchmarkRequest(parent=PROJECT, benchmark_id="evaluated", benchmark=benchmark)
    )
    return made.name


async def evaluate(host: Host, request: pb.EvaluateModelRequest) -> evaluation_pb2.Evaluation:
    async with open_aio_channel(host.address) as channel:
        stub: EvaluationServiceAsyncStub = EvaluationServiceStub(channel)
        operation = await stub.EvaluateModel(request)
        wait = operations_pb2.WaitOperationRequest(name=operation.name, timeout=duration_pb2.Duration(seconds=100))
        ended = await operations_pb2_grpc.OperationsStub(channel).WaitOperation(wait, timeout=105)
    assert ended.done, "still running"
    assert not ended.HasField("error"), ended.error
    evaluation = evaluation_pb2.Evaluation()
    assert ended.response.Unpack(evaluation)
    return evaluation


def peft_nll(base: Path, adapter: Path | None) -> dict[str, tuple[float, int]]:
    """Row id -> negative log-likelihood of the reference with its end of turn, and its tokens, by plain PEFT."""
    import torch
    from peft import PeftModel
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(base)
    model: Any = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32).eval()
    if adapter is not None:
        model = PeftModel.from_pretrained(model, str(adapter)).eval()
    found = {}
    for row in ROWS:
        whole = tokenizer.apply_chat_template(row["messages"], tokenize=True, return_dict=False)
        whole = whole[: len(whole) - whole[::-1].index(tokenizer.eos_token_id)]
        context = tokenizer.apply_chat_template(
            row["messages"][:-1], tokenize=True, return_dict=False, add_generation_prompt=True
        )
        assert whole[: len(context)] == context
        with torch.no_grad():
            logits_LV = model(torch.tensor([whole])).logits[0]
        logprobs_LV = torch.log_softmax(logits_LV[:-1].double(), dim=-1)
        scores_L = logprobs_LV.gather(1, torch.tensor(whole[1:])[:, None])[:, 0]
        tokens = len(whole) - len(context)
        found[row["id"]] = (-float(scores_L[-tokens:].sum()), tokens)
    return found


async def test_perplexities_are_pefts_and_answers_the_engines(
    serving_world: ServingWorld, evaluation_host: Host
) -> None:
    files = serving_world.files
    benchmark = await register(serving_world)
    evaluation = await evaluate(
        evaluation_host,
        pb.EvaluateModelRequest(
            parent=PROJECT,
            evaluation_id="real",
            target=f"{PROJECT}/adapters/bot/versions/{version_id(serving_world.adapters[0])}",
            benchmarks=[benchmark],
        ),
    )
    results = {result.metric: result for result in evaluation.results}
    assert tuple(results) == METRICS
    assert all(result.estimate.scored_count == len(ROWS) for result in results.values())

    theirs = {"target": peft_nll(files.base, files.adapters[0]), "baseline": peft_nll(files.base, None)}
    for side, estimate in (("target", results["perplexity"].estimate), ("baseline", results["perplexity"].baseline)):
        nll, tokens = zip(*theirs[side].values(), strict=True)
        assert estimate.value == pytest.approx(exp(fsum(nll) / sum(tokens)), rel=1e-4)
    assert results["perplexity"].gain.HasField("ci_low")

    data = serving_world.host.store.get_bytes(evaluation.rows_digest)
    rows = pq.read_table(pa.BufferReader(data)).to_pylist()
    assert len(rows) == 2 * len(ROWS)
    for row in rows:
        nll_of_row, tokens_of_row = theirs[row["side"]][row["id"]]
        assert row["reference_tokens"] == tokens_of_row
        assert row["reference_logprob"] == pytest.approx(-nll_of_row, abs=1e-3)
        assert row["latency_s"] > 0
        assert 0 < row["answer_tokens"] <= 8
    await _same_answer(serving_world, next(row for row in rows if row["side"] == "target"), adapter=0)
    await _same_answer(serving_world, next(row for row in rows if row["side"] == "baseline"), adapter=None)


async def _same_answer(world: ServingWorld, row: dict[str, Any], adapter: int | None) -> None:
    question = next(known for known in ROWS if known["id"] == row["id"])["messages"][0]["content"]
    said = await world.inference.Chat(
        inference_pb.ChatRequest(
            target=world.target(adapter),
            messages=[inference_pb.ChatMessage(role="user", content=question)],
            sampling=inference_pb.SamplingParams(temperature=0.0, max_tokens=8),
        ),
        timeout=60,
    )
    assert said.text == row["answer"]
