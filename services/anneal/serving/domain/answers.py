"""What goes to an engine and what comes back, without any engine's own types."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

Finish = Literal["stop", "length"]


@dataclass(frozen=True, slots=True)
class TextPrompt:
    """A text to go on with."""

    text: str


@dataclass(frozen=True, slots=True)
class ChatPrompt:
    """Messages, rendered by the tokenizer's own template.

    Attributes:
        messages: `{role, content, name?, tool_calls?, tool_call_id?, reasoning?}` as rows have them, in order.
        tools: tool descriptions for the template.
    """

    messages: tuple[Mapping[str, Any], ...]
    tools: tuple[Mapping[str, Any], ...] = ()


@dataclass(frozen=True, slots=True)
class TokenPrompt:
    """A sequence that is already tokens."""

    ids: tuple[int, ...]


Prompt = TextPrompt | ChatPrompt | TokenPrompt


@dataclass(frozen=True, slots=True)
class AdapterRef:
    """An adapter inside an engine.

    Attributes:
        digest: its identity, and the key of its blocks in the prefix cache.
        slot: the number the engine knows it by, from 1; never used twice.
        path: folder of its files.
    """

    digest: str
    slot: int
    path: str


@dataclass(frozen=True, slots=True)
class TokenScore:
    """A token with its natural log probability; None for the first token of a sequence, which has none."""

    token_id: int
    text: str
    logprob: float | None
    top: tuple[TokenScore, ...] = ()


@dataclass(frozen=True, slots=True)
class Piece:
    """A piece of an answer, or a whole one.

    Attributes:
        text: new text.
        token_count: new tokens.
        finish: why the answer ended; None while it goes on.
        prompt_tokens: tokens of the prompt.
        scores: the new tokens' log probabilities, when they were asked for.
        reasoning: new text of the thinking before the answer, which is no part of `text`.
    """

    text: str
    token_count: int
    finish: Finish | None
    prompt_tokens: int
    scores: tuple[TokenScore, ...] = ()
    reasoning: str = ""


@dataclass(frozen=True, slots=True)
class Continuation:
    """What is scored after a context: a text, or tokens as they are."""

    text: str = ""
    ids: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Scored:
    """A sequence with its log probabilities.

    Attributes:
        tokens: every token of context and continuation.
        context_tokens: how many of them are context.
        dtype: number format that the engine computed in; empty until the engine is known.
        engine: the engine and its version.
    """

    tokens: tuple[TokenScore, ...]
    context_tokens: int
    dtype: str = ""
    engine: str = ""


@dataclass(frozen=True, slots=True)
class EngineInfo:
    """What an engine says about itself once it runs."""

    engine: str
    dtype: str
    context_length: int
    facts: Mapping[str, str] = field(default_factory=dict)
