"""`kill -9` of a synthesis job in the middle of its calls: it goes on, pays nothing twice and makes every row."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import time
from pathlib import Path
from typing import Any

from fastapi import Response

from anneal.kit.datasets import DatasetReader
from anneal.v1 import synthesis_service_pb2 as pb
from tests.fixtures.openai_server import OpenAIServer, completion, openai_server
from tests.fixtures.synthesis_house import House, order, running
from tests.unit.synthesis import documents as pages

ENTRIES, CONCURRENCY, BUDGET = 12, 2, 100_000


def slowly(body: dict[str, Any], _: int) -> Response:
    """One pair about the entry in the prompt, after a while."""
    time.sleep(0.2)
    number = body["messages"][-1]["content"].split("thing number ")[1].split(".")[0]
    pair = {"instruction": f"What does f{number} return?", "answer": f"Return thing number {number}."}
    return completion(json.dumps({"pairs": [pair]}))


async def kill_in_the_middle(house: House, server: OpenAIServer, operation: str, after: int) -> None:
    while len(server.requests) < after:
        await asyncio.sleep(0.02)
    launcher: Any = house.host.jobs._launcher
    os.kill(launcher._running[operation][1].pid, signal.SIGKILL)


async def test_a_killed_job_goes_on_and_pays_nothing_twice(tmp_path: Path) -> None:
    entries = [pages.entry("function", f"demo.f{n}()", f"Return thing number {n}. Always.") for n in range(ENTRIES)]
    async with running(tmp_path) as house:
        source = await house.publish_documents([pages.document(*entries)])
        with openai_server(slowly) as server:
            teacher = pb.Teacher(
                base_url=server.base_url, model="teacher-1", max_tokens=50, max_concurrency=CONCURRENCY
            )
            params = {"over": "spans", "min_extract_characters": 1, "pairs": 1}
            request = order(
                source.name,
                generator="backtranslate",
                params=params,
                teacher=teacher,
                max_total_tokens=BUDGET,
                novelty=pb.Novelty(max_overlap=1.0),
            )
            operation = await house.synthesis.SynthesizeDataset(request)
            await kill_in_the_middle(house, server, operation.name, after=5)
            version = await house.version(operation)
        manifest = DatasetReader(house.host.store, version.digest).manifest
        rows = house.rows(version)
    prompts = [body["messages"][-1]["content"] for body in server.requests]
    assert len(set(prompts)) == ENTRIES
    assert ENTRIES <= len(prompts) <= ENTRIES + CONCURRENCY
    assert [json.loads(row["origin"])["name"] for row in rows] == [f"demo.f{n}" for n in range(ENTRIES)]
    spending = manifest.statistics["spending"]
    assert spending["reused"] >= 5 - CONCURRENCY
    assert spending["calls"] == ENTRIES
    assert 60 * len(prompts) <= spending["spent_tokens"] <= BUDGET
