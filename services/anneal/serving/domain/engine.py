"""What serving needs of an engine."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from typing import Protocol

from anneal.serving.domain.answers import AdapterRef, Continuation, EngineInfo, Piece, Prompt, Scored
from anneal.serving.domain.sampling import Sampling


class Engine(Protocol):
    """One base model that answers, alone or with an adapter that was loaded before."""

    @property
    def info(self) -> EngineInfo:
        """What it is."""

    @property
    def alive(self) -> bool:
        """False once it has ended; it never comes back."""

    def generate(
        self, prompt: Prompt, sampling: Sampling, adapter: AdapterRef | None, *, stream: bool
    ) -> AsyncGenerator[Piece]:
        """Write an answer in pieces, or whole as one. Closing the iterator ends the generation.

        Raises:
            PromptTooLong: nothing fits after the prompt.
            Invalid: the chat template refuses the messages, or the schema cannot be followed.
            EngineDown: it ended.
        """

    async def score(self, context: Prompt, continuation: Continuation, adapter: AdapterRef | None) -> Scored:
        """Log probabilities of a sequence. Raises as `generate`."""

    async def load(self, adapter: AdapterRef) -> None:
        """Put an adapter in."""

    async def unload(self, slot: int) -> None:
        """Take an adapter out."""

    async def metrics(self) -> str:
        """The engine's own metrics, in Prometheus's text format."""

    async def stop(self) -> None:
        """End it and everything it started."""
