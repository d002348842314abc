"""Backtranslation with the real serving service behind the real gateway as its teacher.

The model is random weights, so what it writes is noise: structure, provenance, budget and resume are what counts.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import openai
import pytest
import pytest_asyncio

from anneal.gateway.bootstrap import start as start_gateway
from anneal.gateway.settings import GatewayOptions
from anneal.kit.datasets import DatasetReader
from anneal.kit.metrics import Metrics
from anneal.synthesis.settings import TeacherOptions
from anneal.v1 import dataset_pb2
from anneal.v1 import synthesis_service_pb2 as pb
from tests.fixtures.serving import ServingWorld
from tests.fixtures.synthesis_house import House, order, running
from tests.unit.synthesis import documents as pages

pytestmark = [pytest.mark.vllm, pytest.mark.asyncio(loop_scope="session")]

MODEL = "toy"
PATIENT = TeacherOptions(timeout_s=60, attempts=2)
ENTRIES, ANSWER_TOKENS = 6, 48


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def teacher_url(serving_world: ServingWorld) -> AsyncIterator[str]:
    """The gateway's address; its engine is up, so that no test waits for the start."""
    # The world is shared: another gateway on it has its metrics on the same registry already.
    runtime = replace(serving_world.host.runtime, metrics=Metrics())
    server, address = await start_gateway(runtime, options=GatewayOptions(project="demo"))
    url = f"http://{address}/v1"
    async with openai.AsyncOpenAI(base_url=url, api_key="none", timeout=300, max_retries=0) as client:
        await client.chat.completions.create(model=MODEL, messages=[{"role": "user", "content": "x"}], max_tokens=1)
    yield url
    await server.stop()


async def taught(house: House, url: str, *, budget: int) -> dataset_pb2.DatasetVersion:
    """A version made of a page with six entries."""
    entries = [pages.entry("function", f"demo.f{n}()", f"Return thing {n}. Always.") for n in range(ENTRIES)]
    source = await house.publish_documents([pages.document(*entries)])
    request = order(
        source.name,
        generator="backtranslate",
        params={"over": "spans", "min_extract_characters": 1, "pairs": 1, "teacher_prompt": "{{ extract }}"},
        teacher=pb.Teacher(base_url=url, model=MODEL, max_tokens=ANSWER_TOKENS, temperature=0.0, max_concurrency=3),
        max_total_tokens=budget,
        min_grounding=0.0,
        novelty=pb.Novelty(max_overlap=1.0),
    )
    request.allow_empty = True  # all of what random weights write may be quarantined
    return await house.version(await house.synthesis.SynthesizeDataset(request))


def spending(house: House, version: dataset_pb2.DatasetVersion) -> dict[str, Any]:
    """What the version cost."""
    found: dict[str, Any] = DatasetReader(house.host.store, version.digest).manifest.statistics["spending"]
    return found


async def test_every_answer_becomes_a_row_or_is_kept_with_its_cause(tmp_path: Path, teacher_url: str) -> None:
    async with running(tmp_path, PATIENT) as house:
        version = await taught(house, teacher_url, budget=1_000_000)
        spent, rows = spending(house, version), house.rows(version)
        quarantined, removed = house.rows(version, "quarantined"), house.rows(version, "removed")
    assert spent["calls"] == ENTRIES
    assert spent["assumed_tokens"] == 0
    assert spent["spent_tokens"] == spent["prompt_tokens"] + spent["completion_tokens"]
    assert ENTRIES <= spent["completion_tokens"] <= ENTRIES * ANSWER_TOKENS
    assert len(rows) + len(quarantined) + len(removed) == ENTRIES
    assert {row["cause"] for row in quarantined} <= {
        "truncated_answer",
        "malformed_answer",
        "malformed_pair",
        "empty_answer",
    }
    for row in [*rows, *removed]:
        origin = json.loads(row["origin"])
        assert origin["teacher"]["asked"] == MODEL
        assert origin["sampling"]["max_tokens"] == ANSWER_TOKENS
        assert origin["prompt_digest"].startswith("sha256:")


async def test_the_budget_holds_against_a_real_endpoint(tmp_path: Path, teacher_url: str) -> None:
    async with running(tmp_path, PATIENT) as house:
        version = await taught(house, teacher_url, budget=700)
        spent = spending(house, version)
    assert 0 < spent["spent_tokens"] <= 700
    assert 0 < spent["calls"] < ENTRIES
    assert spent["calls"] + spent["not_asked"] == ENTRIES


async def test_equal_orders_get_equal_answers(tmp_path: Path, teacher_url: str) -> None:
    async with running(tmp_path, PATIENT) as house:
        first = await taught(house, teacher_url, budget=1_000_000)
        second = await taught(house, teacher_url, budget=1_000_000)
    assert first.digest == second.digest
