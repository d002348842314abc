"""The table of formats that rows are written in, each of which ingestion reads under the same name.

What is written depends on the rows alone: the same version gives the same bytes.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping

from anneal.kit.exporters import conversations, documents, preferences
from anneal.kit.exporters.base import Exporter, LeftOut, Losses, Row

EXPORTERS: Mapping[str, Exporter] = {
    "openai": Exporter(kind="conversation", write=conversations.openai),
    "sharegpt": Exporter(kind="conversation", write=conversations.sharegpt),
    "alpaca": Exporter(kind="conversation", write=conversations.columns("instruction", "output", {"input": ""})),
    "instruction_response": Exporter(kind="conversation", write=conversations.columns("instruction", "response")),
    "query_response": Exporter(kind="conversation", write=conversations.columns("query", "response")),
    "question_answer": Exporter(kind="conversation", write=conversations.columns("question", "answer")),
    "question_response": Exporter(kind="conversation", write=conversations.columns("question", "response")),
    "prompt_completion": Exporter(kind="conversation", write=conversations.columns("prompt", "completion")),
    "prompt_response": Exporter(kind="conversation", write=conversations.columns("prompt", "response")),
    "oasst": Exporter(kind="conversation", write=conversations.oasst),
    "oasst_flat": Exporter(kind="conversation", write=conversations.oasst_flat),
    "preference": Exporter(kind="preference", write=preferences.preference),
    "openai_preference": Exporter(kind="preference", write=preferences.openai_preference),
    "kto": Exporter(kind="preference", write=preferences.kto),
    "articles": Exporter(kind="document", write=documents.document("content", "link"), wrapper="articles"),
    "text": Exporter(kind="document", write=documents.document("text", "uri")),
}


def lines_of(exporter: Exporter, rows: Iterable[Row], losses: Losses) -> Iterator[str]:
    """The text of a file, a piece at a time.

    Args:
        exporter: the format.
        rows: as `ReadRows` gives them.
        losses: told what is not written.
    """
    is_first = True
    if exporter.wrapper:
        yield f"{{{json.dumps(exporter.wrapper)}: ["
    for row in rows:
        try:
            records = exporter.write(row, losses)
        except LeftOut as why:
            losses.rows[str(why)] += 1
            continue
        for record in records:
            line = json.dumps(record, ensure_ascii=False, allow_nan=False)
            yield f"{'' if is_first else ','}\n{line}" if exporter.wrapper else f"{line}\n"
            is_first = False
    if exporter.wrapper:
        yield "\n]}\n"
