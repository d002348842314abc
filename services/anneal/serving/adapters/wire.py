"""The lines that go between the service and an engine's process: one JSON object per line, over a socket pair.

To the engine: `{"id", "op": open | generate | score | load | unload | abort | metrics | stop, ...}`.
From it: `{"id", "event": ready | piece | scored | done | metrics | failed, ...}`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from anneal.serving.domain.answers import (
    AdapterRef,
    ChatPrompt,
    Continuation,
    Piece,
    Prompt,
    Scored,
    TextPrompt,
    TokenPrompt,
    TokenScore,
)
from anneal.serving.domain.sampling import Sampling

LINE_LIMIT_BYTES = 256 << 20
"""Longest line: the scores of a context of a million tokens fit."""

Message = dict[str, Any]


def encode_line(message: Mapping[str, Any]) -> bytes:
    """One message as a line."""
    return json.dumps(message, separators=(",", ":")).encode() + b"\n"


def decode_line(line: bytes) -> Message:
    """The message in a line."""
    message: Message = json.loads(line)
    return message


def encode_prompt(prompt: Prompt) -> Message:
    """A prompt with its kind."""
    return {"kind": type(prompt).__name__, **asdict(prompt)}


def decode_prompt(message: Message) -> Prompt:
    """The prompt of `encode_prompt`."""
    if message["kind"] == "TextPrompt":
        return TextPrompt(message["text"])
    if message["kind"] == "ChatPrompt":
        return ChatPrompt(tuple(message["messages"]), tuple(message["tools"]))
    return TokenPrompt(tuple(message["ids"]))


def encode_continuation(continuation: Continuation) -> Message:
    """What is scored after a context."""
    return asdict(continuation)


def decode_continuation(message: Message) -> Continuation:
    """The continuation of `encode_continuation`."""
    return Continuation(message["text"], tuple(message["ids"]))


def encode_sampling(sampling: Sampling) -> Message:
    """Choices of one request."""
    return asdict(sampling)


def decode_sampling(message: Message) -> Sampling:
    """The choices of `encode_sampling`."""
    return Sampling(**{**message, "stop": tuple(message["stop"])})


def encode_adapter(adapter: AdapterRef | None) -> Message | None:
    """An adapter, or none."""
    return None if adapter is None else asdict(adapter)


def decode_adapter(message: Message | None) -> AdapterRef | None:
    """The adapter of `encode_adapter`."""
    return None if message is None else AdapterRef(**message)


def encode_score(score: TokenScore) -> list[Any]:
    """A token's score as a short list."""
    return [score.token_id, score.text, score.logprob, [encode_score(other) for other in score.top]]


def decode_score(row: list[Any]) -> TokenScore:
    """The score of `encode_score`."""
    return TokenScore(row[0], row[1], row[2], tuple(decode_score(other) for other in row[3]))


def encode_piece(piece: Piece) -> Message:
    """A piece of an answer."""
    return {
        "text": piece.text,
        "tokens": piece.token_count,
        "finish": piece.finish,
        "prompt_tokens": piece.prompt_tokens,
        "scores": [encode_score(score) for score in piece.scores],
        "reasoning": piece.reasoning,
    }


def decode_piece(message: Message) -> Piece:
    """The piece of `encode_piece`."""
    scores = tuple(decode_score(row) for row in message["scores"])
    numbers = message["tokens"], message["finish"], message["prompt_tokens"]
    return Piece(message["text"], *numbers, scores, message["reasoning"])


def encode_scored(scored: Scored) -> Message:
    """A scored sequence."""
    return {"tokens": [encode_score(token) for token in scored.tokens], "context": scored.context_tokens}


def decode_scored(message: Message) -> Scored:
    """The sequence of `encode_scored`."""
    return Scored(tuple(decode_score(row) for row in message["tokens"]), message["context"])
