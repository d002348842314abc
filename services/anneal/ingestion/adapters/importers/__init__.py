"""The table of row formats: how a row of a file becomes a conversation, a preference or a document."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from anneal.ingestion.adapters.importers.alpaca import Alpaca
from anneal.ingestion.adapters.importers.articles import Articles
from anneal.ingestion.adapters.importers.base import Importer
from anneal.ingestion.adapters.importers.instruction_response import InstructionResponse
from anneal.ingestion.adapters.importers.kto import Kto, is_sure
from anneal.ingestion.adapters.importers.oasst import Oasst
from anneal.ingestion.adapters.importers.oasst_flat import OasstFlat
from anneal.ingestion.adapters.importers.openai import OpenAI
from anneal.ingestion.adapters.importers.openai_preference import OpenAIPreference
from anneal.ingestion.adapters.importers.preference import LISTS, Preference
from anneal.ingestion.adapters.importers.prompt_completion import PromptCompletion
from anneal.ingestion.adapters.importers.prompt_response import PromptResponse
from anneal.ingestion.adapters.importers.query_response import QueryResponse
from anneal.ingestion.adapters.importers.question_answer import QuestionAnswer
from anneal.ingestion.adapters.importers.question_response import QuestionResponse
from anneal.ingestion.adapters.importers.sharegpt import ShareGPT
from anneal.ingestion.adapters.importers.text import Text

IMPORTERS: Mapping[str, Importer] = {
    "openai": OpenAI(),
    "sharegpt": ShareGPT(),
    "alpaca": Alpaca(),
    "instruction_response": InstructionResponse(),
    "query_response": QueryResponse(),
    "question_answer": QuestionAnswer(),
    "question_response": QuestionResponse(),
    "prompt_completion": PromptCompletion(),
    "prompt_response": PromptResponse(),
    "oasst": Oasst(),
    "oasst_flat": OasstFlat(),
    "preference": Preference(),
    "openai_preference": OpenAIPreference(),
    "kto": Kto(),
    "articles": Articles(),
    "text": Text(),
}
CONTAINERS = ("jsonl", "json", "csv", "parquet", "arrow", "txt")
_WEAK = ("text", "articles")
"""Formats with one mark only, which rows of others may carry as well."""


def formats_of(row: Mapping[str, Any]) -> tuple[str, ...]:
    """The formats whose marks a row carries, without those that another one contains."""
    found = {name for name, importer in IMPORTERS.items() if importer.recognises(row)}
    strong = found - set(_WEAK)
    found = strong or found
    if "kto" in found and is_sure(row):
        found -= {name for name in found if IMPORTERS[name].kind == "conversation"}
    if "preference" in found and not _ends_with_an_answer(row):
        found -= {"openai", "sharegpt"}
    if "oasst_flat" in found:
        found -= {"oasst"}
    return tuple(name for name in IMPORTERS if name in found)


def detect_format(row: Mapping[str, Any]) -> str | None:
    """The one format whose marks a row carries; None when there is none, or more than one."""
    found = formats_of(row)
    return found[0] if len(found) == 1 else None


def _ends_with_an_answer(row: Mapping[str, Any]) -> bool:
    """Whether a list of messages beside two answers is a conversation of its own, and not their prompt."""
    for name in LISTS:
        value = row.get(name)
        last = value[-1] if isinstance(value, list) and value else None
        if isinstance(last, Mapping) and str(last.get("role", last.get("from"))) in ("assistant", "gpt"):
            return True
    return False
