"""Learn the assistant's answers, given everything before them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, ClassVar

from transformers import PreTrainedTokenizerBase

from anneal.training.domain.checks import check_answers
from anneal.training.domain.samples import Sample
from anneal.training.domain.template import ChatTemplate, stop_token_ids


class Instruction:
    """One sample per conversation; the loss covers the assistant's tokens alone, up to its stop token."""

    record: ClassVar[str] = "conversation"
    needs_stop: ClassVar[bool] = True

    def __init__(self, tokenizer: PreTrainedTokenizerBase, *, context_tokens: int) -> None:
        """Read the tokenizer's template; conversations are never split, so the context's size does not matter here."""
        del context_tokens
        self._tokenizer = tokenizer
        self._template = ChatTemplate(tokenizer)
        self._stops = stop_token_ids(tokenizer)

    def samples(self, rows: Iterable[Mapping[str, Any]]) -> Iterator[Sample]:
        """Yield one checked sample per conversation.

        Raises:
            NoAssistantTurn: a conversation has nothing to learn from.
            MaskMisplaced: the mask covers other text than the assistant's.
            StopTokenMissing: an assistant turn does not end in a stop token inside the mask.
        """
        for row in rows:
            rendered = self._template.render(row["messages"], row.get("tools"), row_id=row["id"])
            answers = [m["content"] for m in row["messages"] if m["role"] == "assistant"]
            check_answers(self._tokenizer, rendered, answers, self._stops, row_id=row["id"])
            yield Sample(rendered.token_ids, rendered.is_answer, row["id"])
