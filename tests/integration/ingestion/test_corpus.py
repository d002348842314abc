"""The example corpus through the running service, and `kill -9` in the middle of it."""

from __future__ import annotations

import asyncio
import json
import os
import signal
from collections import Counter
from pathlib import Path
from typing import Any

from anneal.v1 import ingestion_service_pb2 as pb
from tests.fixtures.ingestion_house import House, running

CORPUS = Path(__file__).resolve().parents[3] / "examples" / "python-docs" / "python-3.11-docs.tar.xz"
LIBRARY = ["library/*"]


async def ingest(house: House, upload: str, **more: Any) -> Any:
    request = pb.IngestDocumentsRequest(parent="projects/p", dataset_id="docs", uploads=[upload], **more)
    return await house.ingestion.IngestDocuments(request)


async def test_the_corpus_becomes_documents_and_a_killed_job_makes_the_same_ones(tmp_path: Path) -> None:
    async with running(tmp_path) as house:
        upload = await house.upload("python-3.11-docs.tar.xz", CORPUS.read_bytes())
        whole = await house.version(await ingest(house, upload, include=LIBRARY, license="PSF-2.0"))
        rows = house.rows(whole)

        again = await ingest(house, upload, include=LIBRARY, license="PSF-2.0")
        scratch = await kill_in_the_middle(house, again.name)
        kept_before = len(list(scratch.glob("*.json")))
        resumed = await house.version(again)

    assert (whole.row_count, whole.input_row_count, whole.quarantined_row_count) == (317, 317, 0)
    assert {row["license"] for row in rows} == {"PSF-2.0"}
    assert {row["source"] for row in rows} == {row["uri"] for row in rows}
    types: Counter[str] = Counter()
    for row in rows:
        for span in json.loads(row["meta"])["spans"]:
            types[f"{span['domain']}:{span['type']}"] += 1
            assert row["text"].startswith(span["signature"], span["start"])
            assert span["start"] < span["body_start"] <= span["end"] <= len(row["text"])
    assert types["py:function"] == 2077
    assert types["py:method"] == 2996
    assert sum(count for name, count in types.items() if name.startswith("py:")) == 8256

    assert kept_before > 0
    assert resumed.digest == whole.digest


async def kill_in_the_middle(house: House, operation: str) -> Path:
    """Kill the job's process once it has kept its second part; the folder of its parts."""
    launcher: Any = house.host.jobs._launcher
    scratch = house.host.settings.data_dir
    while True:
        folders = [path for path in scratch.rglob("parts") if operation.rsplit("/", 1)[-1] in str(path)]
        if folders and len(list(folders[0].glob("*.json"))) >= 2:
            break
        await asyncio.sleep(0.02)
    os.kill(launcher._running[operation][1].pid, signal.SIGKILL)
    return folders[0]
