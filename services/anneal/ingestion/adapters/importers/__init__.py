"""The table of row formats: how a row of a file becomes a conversation or a document."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from anneal.ingestion.adapters.importers.alpaca import Alpaca
from anneal.ingestion.adapters.importers.base import Importer
from anneal.ingestion.adapters.importers.oasst import Oasst
from anneal.ingestion.adapters.importers.openai import OpenAI
from anneal.ingestion.adapters.importers.prompt_completion import PromptCompletion
from anneal.ingestion.adapters.importers.sharegpt import ShareGPT
from anneal.ingestion.adapters.importers.text import Text

IMPORTERS: Mapping[str, Importer] = {
    "openai": OpenAI(),
    "sharegpt": ShareGPT(),
    "alpaca": Alpaca(),
    "oasst": Oasst(),
    "prompt_completion": PromptCompletion(),
    "text": Text(),
}
CONTAINERS = ("jsonl", "json", "csv", "parquet", "arrow", "txt")


def detect_format(row: Mapping[str, Any]) -> str | None:
    """The first format whose marks a row carries; None when there is none."""
    return next((name for name, importer in IMPORTERS.items() if importer.recognises(row)), None)
