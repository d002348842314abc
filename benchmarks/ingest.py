"""Ingestion through its service: an upload, an import of 100,000 conversations, and the documents of the example.

Each job's time runs from the order to its end, the start of its process included.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from anneal.cli.client import Client
from anneal.ingestion import bootstrap as ingestion
from anneal.kit import logs
from anneal.kit.testing import hosted
from anneal.registry import bootstrap as registry
from anneal.v1 import dataset_pb2, job_service_pb2
from anneal.v1 import ingestion_service_pb2 as pb
from benchmarks.results import Figure, keep

ARCHIVE = Path(__file__).resolve().parents[1] / "examples" / "python-docs" / "python-3.11-docs.tar.xz"
MAX_CHARACTERS = 4000


def write_conversations(path: Path, rows: int) -> None:
    """Conversations of 150 words, each its own, as OpenAI messages; the same at every call."""
    rng = random.Random(0)
    words = ["".join(rng.choices("abcdefghijklmnopqrstuvwxyz", k=rng.randint(2, 10))) for _ in range(5000)]
    with path.open("w", encoding="utf-8") as file:
        for number in range(rows):
            question = f"{number} " + " ".join(rng.choices(words, k=50))
            answer = " ".join(rng.choices(words, k=100))
            messages = [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]
            file.write(json.dumps({"messages": messages}) + "\n")


class Bench:
    """A client that times what it orders."""

    def __init__(self, client: Client) -> None:
        self._client = client

    def upload(self, path: Path) -> tuple[str, float]:
        """The upload's name and its seconds."""
        start = time.perf_counter()
        name = self._client.upload(path, path.name).name
        return name, time.perf_counter() - start

    def job(
        self, kind: str, call: Callable[[Any], Any], request: Any
    ) -> tuple[dataset_pb2.DatasetVersion, float, float]:
        """The version a job made, the bytes it counted, and its seconds."""
        counted = 0.0

        def note(event: job_service_pb2.JobEvent) -> None:
            nonlocal counted
            if event.metric.name == "bytes":
                counted += event.metric.value

        version = dataset_pb2.DatasetVersion()
        start = time.perf_counter()
        self._client.run(call, request, kind, version, note)
        return version, counted, time.perf_counter() - start


def measure(address: str, folder: Path, rows: int) -> list[Figure]:
    """Everything, one after the other, over one channel."""
    client = Client(address)
    bench = Bench(client)
    examples = folder / "rows.jsonl"
    write_conversations(examples, rows)
    size_mb = examples.stat().st_size / 1e6
    uploaded, upload_s = bench.upload(examples)
    order = pb.ImportDatasetRequest(parent=client.parent, dataset_id="rows", upload=uploaded)
    imported, _, import_s = bench.job("import", client.ingestion.ImportDataset, order)
    archive, _ = bench.upload(ARCHIVE)
    chunking = pb.Chunking(max_characters=MAX_CHARACTERS)
    documents = pb.IngestDocumentsRequest(
        parent=client.parent, dataset_id="documents", uploads=[archive], chunking=chunking
    )
    chunks, html_bytes, ingest_s = bench.job("ingest", client.ingestion.IngestDocuments, documents)
    client.close()
    return [
        Figure("upload", size_mb / upload_s, "MB/s"),
        Figure("import, conversations from JSONL", imported.row_count / import_s, "rows/s"),
        Figure("import, conversations from JSONL", size_mb / import_s, "MB/s"),
        Figure("documents, HTML to chunks", chunks.row_count / ingest_s, "rows/s"),
        Figure("documents, HTML to chunks", html_bytes / 1e6 / ingest_s, "MB/s"),
    ]


async def run(folder: Path, rows: int) -> list[Figure]:
    """Serve ingestion and the registry here, and measure from a thread."""
    async with hosted(folder / "data", [registry.build, ingestion.build]) as host:
        return await asyncio.to_thread(measure, host.address, folder, rows)


def main() -> None:
    """Measure and keep."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=100_000, help="conversations to import")
    rows: int = parser.parse_args().rows
    logs.configure(json_lines=False, level="WARNING")
    with tempfile.TemporaryDirectory() as folder:
        figures = asyncio.run(run(Path(folder), rows))
    keep("ingest", figures, {"rows": rows, "archive": ARCHIVE.name, "max_characters": MAX_CHARACTERS})


if __name__ == "__main__":
    main()
