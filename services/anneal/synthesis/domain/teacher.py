"""The port to a teacher: what is asked, what comes back, and how a call can fail."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass, field
from functools import cached_property
from typing import Any, Protocol

from anneal.synthesis.domain.documents import Passage
from anneal.synthesis.domain.rows import Message, digest

TOKENS_PER_MESSAGE = 16
"""Room for the role and turn marks of one message; ChatML spends 5."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """What a generator wants to know from a teacher.

    Attributes:
        schema: JSON schema of the answer without string bounds; see `schemas.without_string_bounds`.
    """

    messages: tuple[Message, ...]
    schema: Mapping[str, Any]
    passage: Passage = field(repr=False)
    extract: str = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Sampling:
    """How the teacher samples; `seed` is mixed with each prompt, so that equal questions get equal answers."""

    temperature: float
    max_tokens: int
    seed: int


@dataclass(frozen=True, kw_only=True)
class Call:
    """A question to one model. Equal calls have equal keys, so one that was paid is never paid again."""

    model: str
    sampling: Sampling
    question: Question

    @cached_property
    def prompt_digest(self) -> str:
        """Digest of what the teacher reads."""
        return "sha256:" + digest([asdict(message) for message in self.question.messages])

    @cached_property
    def key(self) -> str:
        """Digest of everything that shapes the answer."""
        return digest([self.model, self.prompt_digest, dict(self.question.schema), asdict(self.sampling)])

    @cached_property
    def seed(self) -> int:
        """The seed of this call, 31 bits."""
        return int(digest([self.sampling.seed, self.prompt_digest])[:8], 16) & 0x7FFF_FFFF

    def tokens_bound(self, overhead: int) -> int:
        """The most tokens the call can cost.

        A byte-level tokenizer never makes more tokens than bytes; `overhead` covers the teacher's own template.
        """
        prompt = sum(len(message.content.encode()) + TOKENS_PER_MESSAGE for message in self.question.messages)
        return prompt + overhead + self.sampling.max_tokens


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """A teacher's answer. Token counts are None where the endpoint does not say."""

    text: str
    finish_reason: str
    model: str
    prompt_tokens: int | None
    completion_tokens: int | None

    @property
    def tokens(self) -> int | None:
        """What the call cost, or None where the endpoint does not say."""
        if self.prompt_tokens is None or self.completion_tokens is None:
            return None
        return self.prompt_tokens + self.completion_tokens


class TeacherBusy(Exception):
    """The teacher took no work now (overloaded, restarting): nothing was spent, ask again later."""

    def __init__(self, message: str, retry_after_s: float | None = None) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class TeacherLost(Exception):
    """The call broke off or timed out: the teacher may have worked, so its whole price counts as spent."""


class CallRefused(Exception):
    """The teacher refuses this one call (too long, a schema it cannot do): the same call never succeeds."""


class TeacherRefused(Exception):
    """The teacher refuses every call (no such model, no right): the recipe or the settings are wrong."""


class Teacher(Protocol):
    """Anything that answers a call."""

    async def complete(self, call: Call) -> Reply:
        """Ask once, without retrying.

        Raises:
            TeacherBusy, TeacherLost: worth another attempt.
            CallRefused, TeacherRefused: not worth one.
        """
        ...


Attempts = Callable[[], AsyncIterator[AbstractContextManager[Any]]]
"""Yields one context per attempt and swallows `TeacherBusy` and `TeacherLost` while there is another."""
