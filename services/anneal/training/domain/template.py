"""Renders a conversation by the tokenizer's own Jinja template and marks what the assistant said.

Templates that mark the assistant's text with `{% generation %}` are asked for it. For all others the text is
rendered turn by turn and what a turn adds to the prompt before it is the assistant's; a template that rewrites earlier
turns is refused, because there the difference would be wrong without anybody seeing it.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from transformers import PreTrainedTokenizerBase

from anneal.training.domain.errors import NoAssistantTurn, TemplateMissing, TemplateUnstable

Message = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Rendered:
    """A conversation as token ids; `is_answer[i]` says whether token i is the assistant's."""

    token_ids: list[int]
    is_answer: list[bool]


class ChatTemplate:
    """The chat template of one tokenizer."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase) -> None:
        """Look at the tokenizer's template once.

        Raises:
            TemplateMissing: the tokenizer has none, or cannot map characters to tokens.
        """
        template = tokenizer.chat_template
        if not isinstance(template, str):
            raise TemplateMissing("the tokenizer has no single chat template")
        if not tokenizer.is_fast:
            raise TemplateMissing("the tokenizer is not a fast one, so characters cannot be mapped to tokens")
        self._tokenizer = tokenizer
        self._is_marked = "{% generation %}" in template or "{%- generation" in template or "{% generation" in template

    def render(self, messages: Sequence[Message], tools: str | None = None, *, row_id: str = "") -> Rendered:
        """Render a whole conversation and mark the assistant's tokens.

        Raises:
            NoAssistantTurn: no message has the role `assistant`.
            TemplateUnstable: the template rewrites earlier turns, or refuses the conversation.
        """
        if not any(m["role"] == "assistant" for m in messages):
            raise NoAssistantTurn(f"conversation {row_id} has no assistant turn", row_id=row_id)
        schemas = json.loads(tools) if tools else None
        return self._by_markers(messages, schemas) if self._is_marked else self._by_prefixes(messages, schemas, row_id)

    def prompt_ids(self, messages: Sequence[Message], tools: str | None = None) -> list[int]:
        """Render what serving would be sent: everything up to where the assistant starts to speak."""
        text = self._text(messages, json.loads(tools) if tools else None, add_generation_prompt=True)
        return list(self._tokenizer(text, add_special_tokens=False)["input_ids"])

    def _by_markers(self, messages: Sequence[Message], tools: Any) -> Rendered:
        out = self._tokenizer.apply_chat_template(
            list(messages), tools=tools, tokenize=True, return_dict=True, return_assistant_tokens_mask=True
        )
        return Rendered(list(out["input_ids"]), [bool(m) for m in out["assistant_masks"]])

    def _by_prefixes(self, messages: Sequence[Message], tools: Any, row_id: str) -> Rendered:
        whole = self._text(messages, tools)
        spans = []
        for i, message in enumerate(messages):
            if message["role"] != "assistant":
                continue
            before = self._text(messages[:i], tools, add_generation_prompt=True)
            after = self._text(messages[: i + 1], tools)
            if not (after.startswith(before) and whole.startswith(after)):
                raise TemplateUnstable(
                    f"the chat template rewrites earlier turns (conversation {row_id}, turn {i}): "
                    "what the assistant said cannot be told apart",
                    row_id=row_id,
                    turn=i,
                )
            spans.append((len(before), len(after.rstrip())))
        out = self._tokenizer(whole, add_special_tokens=False, return_offsets_mapping=True)
        is_answer = [any(a < end and b > start for start, end in spans) for a, b in out["offset_mapping"]]
        return Rendered(list(out["input_ids"]), is_answer)

    def _text(self, messages: Sequence[Message], tools: Any, *, add_generation_prompt: bool = False) -> str:
        return str(
            self._tokenizer.apply_chat_template(
                list(messages), tools=tools, tokenize=False, add_generation_prompt=add_generation_prompt
            )
        )


def stop_token_ids(tokenizer: PreTrainedTokenizerBase, generation_config: Any = None) -> frozenset[int]:
    """Return every token id that ends a turn: the tokenizer's end of sequence and the model's own list."""
    found: set[int] = set()
    if isinstance(tokenizer.eos_token_id, int):
        found.add(tokenizer.eos_token_id)
    listed = getattr(generation_config, "eos_token_id", None)
    found.update([listed] if isinstance(listed, int) else listed or [])
    return frozenset(found)
