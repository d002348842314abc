"""Answers of the OpenAI protocol, built from plain values."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Token:
    """A token with its log probability and its alternatives."""

    text: str
    logprob: float
    top: tuple[Token, ...] = ()


@dataclass(frozen=True, slots=True)
class Answer:
    """A whole answer or a piece of one.

    Attributes:
        finish: `stop` or `length`; None while it goes on.
        usage: prompt and completion tokens; None while it goes on.
        reasoning: what the model thought before the answer.
    """

    text: str
    finish: str | None
    usage: tuple[int, int] | None
    tokens: Sequence[Token] = ()
    reasoning: str = ""


@dataclass(frozen=True, slots=True)
class Envelope:
    """What every object of one answer carries.

    Attributes:
        id: the answer's id.
        created: seconds since 1970.
        model: the name that was asked.
        fingerprint: who answered, by digest.
    """

    id: str
    created: int
    model: str
    fingerprint: str

    def wrap(self, kind: str, choices: list[dict[str, Any]], **more: Any) -> dict[str, Any]:
        """An object of this answer."""
        return {
            "id": self.id,
            "object": kind,
            "created": self.created,
            "model": self.model,
            "system_fingerprint": self.fingerprint,
            "choices": choices,
            **more,
        }


def usage(used: Sequence[tuple[int, int]]) -> dict[str, int]:
    """Tokens of one or several answers."""
    prompt, completion = sum(p for p, _ in used), sum(c for _, c in used)
    return {"prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": prompt + completion}


def chat_answer(envelope: Envelope, answer: Answer, *, with_logprobs: bool) -> dict[str, Any]:
    """A `chat.completion`."""
    message = {"role": "assistant", "content": answer.text, "refusal": None, **_reasoning(answer)}
    choice = {
        "index": 0,
        "message": message,
        "logprobs": chat_logprobs(answer.tokens) if with_logprobs else None,
        "finish_reason": answer.finish,
    }
    return envelope.wrap("chat.completion", [choice], usage=usage([answer.usage or (0, 0)]))


def chat_chunk(envelope: Envelope, piece: Answer, *, first: bool, with_logprobs: bool) -> dict[str, Any]:
    """A `chat.completion.chunk`; the first one says the role."""
    delta = {"role": "assistant", "content": piece.text} if first else {"content": piece.text}
    delta.update(_reasoning(piece))
    choice = {
        "index": 0,
        "delta": delta,
        "logprobs": chat_logprobs(piece.tokens) if with_logprobs else None,
        "finish_reason": piece.finish,
    }
    return envelope.wrap("chat.completion.chunk", [choice])


def _reasoning(answer: Answer) -> dict[str, str]:
    """The field that vLLM, DeepSeek and Qwen give reasoning in; OpenAI's own answers have none."""
    return {"reasoning_content": answer.reasoning} if answer.reasoning else {}


def chat_logprobs(tokens: Sequence[Token]) -> dict[str, Any]:
    """Log probabilities as chat answers have them."""

    def entry(token: Token) -> dict[str, Any]:
        return {"token": token.text, "logprob": token.logprob, "bytes": list(token.text.encode())}

    content = [{**entry(token), "top_logprobs": [entry(other) for other in token.top]} for token in tokens]
    return {"content": content, "refusal": None}


def completion_choice(index: int, answer: Answer, *, with_logprobs: bool, offset: int = 0) -> dict[str, Any]:
    """A choice of a `text_completion`, whole or a piece; `offset` counts the characters before it."""
    return {
        "index": index,
        "text": answer.text,
        "logprobs": completion_logprobs(answer.tokens, offset) if with_logprobs else None,
        "finish_reason": answer.finish,
    }


def completion_logprobs(tokens: Sequence[Token], offset: int) -> dict[str, Any]:
    """Log probabilities as text completions have them."""
    offsets = []
    for token in tokens:
        offsets.append(offset)
        offset += len(token.text)
    return {
        "tokens": [token.text for token in tokens],
        "token_logprobs": [token.logprob for token in tokens],
        "top_logprobs": [{other.text: other.logprob for other in token.top} for token in tokens],
        "text_offset": offsets,
    }
