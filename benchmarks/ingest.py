"""Ingestion, in rows/s and MB/s: the shipped documentation parsed, then over the service, and 100,000 JSONL rows.

Over the service everything counts: upload, the start of the job's process, writing the dataset, naming it.
"""

from __future__ import annotations

import asyncio
import json
import random
import tempfile
import time
from itertools import islice
from pathlib import Path
from typing import Any

from benchmarks.results import Figure, keep, options_of, parser

CORPUS = Path(__file__).resolve().parents[1] / "examples" / "python-docs" / "python-3.11-docs.tar.xz"
ROWS, SMALL_ROWS = 100_000, 2_000
SMALL_PARSED = 12
SMALL_PAGES = ("library/ab*.html", "tutorial/a*.html")
SEED = 20_231_117
WORDS = ("the", "function", "returns", "a", "list", "of", "every", "name", "that", "module", "path", "file", "value")


def generate(path: Path, rows: int) -> None:
    """Alpaca rows with answers of 5 to 120 words; one in a thousand is damaged."""
    chance = random.Random(SEED)
    with path.open("w", encoding="utf-8") as file:
        for number in range(rows):
            answer = " ".join(chance.choices(WORDS, k=chance.randint(5, 120)))
            row = json.dumps({"instruction": f"Explain {number}.", "input": chance.choice(WORDS), "output": answer})
            file.write((row[:-5] if number % 1000 == 999 else row) + "\n")


def parse_corpus(most: int | None) -> tuple[int, int, float]:
    """Pages, bytes of text and seconds for unpacking and parsing alone, of so many pages or of all."""
    from anneal.ingestion.adapters.corpus import documents_from_archive

    start = time.perf_counter()
    sizes = [len(page.text.encode()) for page in islice(documents_from_archive(CORPUS), most)]
    return len(sizes), sum(sizes), time.perf_counter() - start


async def over_the_service(folder: Path, rows: Path, include: tuple[str, ...]) -> dict[str, tuple[int, float]]:
    """Rows kept or quarantined, and seconds from the first byte sent to the version named."""
    from anneal.v1 import ingestion_service_pb2 as pb
    from tests.fixtures.ingestion_house import House, running

    async def timed(house: House, path: Path, call: Any, order: Any, **fields: Any) -> tuple[int, float]:
        start = time.perf_counter()
        upload = await house.upload(path.name, path.read_bytes())
        repeated = order is pb.IngestDocumentsRequest
        place = {"uploads": [upload]} if repeated else {"upload": upload}
        version = await house.version(await call(order(parent="projects/p", **place, **fields)))
        return version.input_row_count, time.perf_counter() - start

    async with running(folder) as house:
        documents = house.ingestion.IngestDocuments
        return {
            "corpus": await timed(
                house, CORPUS, documents, pb.IngestDocumentsRequest, dataset_id="docs", include=include
            ),
            "jsonl": await timed(
                house, rows, house.ingestion.ImportDataset, pb.ImportDatasetRequest, dataset_id="rows"
            ),
        }


def main() -> None:
    """Measure and keep."""
    from anneal.kit import logs

    arguments = parser(__doc__)
    options = options_of(arguments, arguments.parse_args())
    include, number = (SMALL_PAGES, SMALL_ROWS) if options.small else ((), ROWS)
    logs.configure(json_lines=False, level="ERROR")
    pages, text_bytes, parsing_s = parse_corpus(SMALL_PARSED if options.small else None)
    with tempfile.TemporaryDirectory(prefix="anneal-bench-") as folder:
        rows = Path(folder) / "rows.jsonl"
        generate(rows, number)
        jsonl_bytes = rows.stat().st_size
        found = asyncio.run(over_the_service(Path(folder) / "data", rows, include))
    (documents, corpus_s), (imported, jsonl_s) = found["corpus"], found["jsonl"]
    figures = [
        Figure("corpus, unpacked and parsed", round(pages / parsing_s, 1), "pages/s"),
        Figure("corpus, unpacked and parsed, text", round(text_bytes / parsing_s / 1e6, 2), "MB/s"),
        Figure("corpus, over the service", round(documents / corpus_s, 1), "rows/s"),
        Figure("corpus, over the service, text", round(text_bytes / corpus_s / 1e6, 2), "MB/s"),
        Figure("JSONL, over the service", round(imported / jsonl_s, 1), "rows/s"),
        Figure("JSONL, over the service, file", round(jsonl_bytes / jsonl_s / 1e6, 2), "MB/s"),
    ]
    keep(
        "ingest",
        figures,
        {
            "command": "python -m benchmarks.ingest",
            "corpus": f"{documents} pages of Python's documentation, {text_bytes} bytes of text",
            "jsonl": f"{number} generated Alpaca rows, {jsonl_bytes} bytes, 1 in 1000 damaged, seed {SEED}",
            "rounds": 1,
        },
        options,
    )


if __name__ == "__main__":
    main()
