"""Answering: who is asked, which adapter that needs, and what it cost."""

from __future__ import annotations

import uuid
from collections.abc import AsyncGenerator
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass, replace
from time import perf_counter
from typing import Protocol

from anneal.kit.digests import hex_of
from anneal.kit.errors import Invalid, Refusal
from anneal.serving.domain.answers import AdapterRef, Continuation, Piece, Prompt, Scored
from anneal.serving.domain.engine import Engine
from anneal.serving.domain.sampling import Sampling
from anneal.serving.engines import Engines
from anneal.serving.meters import UNKNOWN, Meters, short


@dataclass(frozen=True, slots=True)
class Target:
    """Who is asked: a deployment, or a base model with or without an adapter.

    Attributes:
        split_key: the same key always falls on the same side of a canary split; empty draws a side.
    """

    deployment: str = ""
    base_digest: str = ""
    adapter_digest: str = ""
    split_key: str = ""


@dataclass(frozen=True, slots=True)
class Answerer:
    """Who answers: digests, and the deployment when one was asked."""

    base_digest: str
    adapter_digest: str
    deployment: str = ""
    canary: bool = False


class Deployments(Protocol):
    """Says who stands behind a deployment."""

    async def resolve(self, name: str, split_key: str) -> Answerer:
        """Who answers this request.

        Raises:
            DeploymentMissing: there is no such deployment.
        """


class Inference:
    """Answers and scores with any adapter of any base."""

    def __init__(self, engines: Engines, deployments: Deployments, meters: Meters) -> None:
        self._engines, self._deployments, self._meters = engines, deployments, meters

    async def resolve(self, target: Target) -> Answerer:
        """Who answers.

        Raises:
            Invalid: not exactly one of deployment and base model is named, or a digest is none.
            DeploymentMissing: there is no such deployment.
        """
        if bool(target.deployment) == bool(target.base_digest):
            raise Invalid.field("target", "name either a deployment or a base model digest")
        if target.deployment:
            if target.adapter_digest:
                raise Invalid.field("target.adapter_digest", "the deployment says which adapter answers")
            answerer = await self._deployments.resolve(target.deployment, target.split_key or uuid.uuid4().hex)
            self._meters.split.labels(target.deployment, str(answerer.canary).lower()).inc()
            return answerer
        hex_of(target.base_digest, "target.base_model_digest")
        if target.adapter_digest:
            hex_of(target.adapter_digest, "target.adapter_digest")
        return Answerer(target.base_digest, target.adapter_digest)

    async def answer(self, who: Answerer, prompt: Prompt, sampling: Sampling) -> Piece:
        """The whole answer."""
        async with (
            self._asking(who, "answer") as (engine, adapter),
            aclosing(engine.generate(prompt, sampling, adapter, stream=False)) as pieces,
        ):
            answer = await anext(pieces)
            self._count_tokens(who, answer.prompt_tokens, answer.token_count)
        return answer

    async def stream(self, who: Answerer, prompt: Prompt, sampling: Sampling) -> AsyncGenerator[Piece]:
        """The answer as it is written. Closing the iterator ends the generation."""
        first, last, written, asked = perf_counter(), 0.0, 0, 0
        labels = (short(who.base_digest), short(who.adapter_digest))
        async with self._asking(who, "stream") as (engine, adapter):
            try:
                async with aclosing(engine.generate(prompt, sampling, adapter, stream=True)) as pieces:
                    async for piece in pieces:
                        now = perf_counter()
                        if written:
                            self._meters.between_tokens.labels(*labels).observe(now - last)
                        else:
                            self._meters.first_token.labels(*labels).observe(now - first)
                        last, asked, written = now, piece.prompt_tokens, written + piece.token_count
                        yield piece
            finally:
                self._count_tokens(who, asked, written)

    async def score(self, who: Answerer, context: Prompt, continuation: Continuation) -> Scored:
        """Log probabilities of a continuation after a context, and what the engine computed them in."""
        async with self._asking(who, "score") as (engine, adapter):
            scored = await engine.score(context, continuation, adapter)
            labels = (short(who.base_digest), short(who.adapter_digest))
            self._meters.tokens.labels(*labels, "scored").inc(len(scored.tokens))
            info = engine.info
        return replace(scored, dtype=info.dtype, engine=info.engine)

    def _count_tokens(self, who: Answerer, prompt: int, completion: int) -> None:
        labels = (short(who.base_digest), short(who.adapter_digest))
        self._meters.tokens.labels(*labels, "prompt").inc(prompt)
        self._meters.tokens.labels(*labels, "completion").inc(completion)

    @asynccontextmanager
    async def _asking(self, who: Answerer, kind: str) -> AsyncGenerator[tuple[Engine, AdapterRef | None]]:
        """Hold engine and adapter for one request, and count it by how it ended.

        That is `ok`, the refusal's reason, or `gone` when the client left. Digests become labels only once they are
        known to be something: those of a deployment, an engine's, a loaded adapter's.
        """
        base_label = adapter_label = UNKNOWN
        if who.deployment:
            base_label, adapter_label = short(who.base_digest), short(who.adapter_digest)
        outcome = "gone"
        try:
            base = await self._engines.get(who.base_digest)
            base_label = short(who.base_digest)
            if not who.adapter_digest or base.residents.get(who.adapter_digest):
                adapter_label = short(who.adapter_digest)
            async with base.answering(who.adapter_digest) as adapter:
                adapter_label = short(who.adapter_digest)
                yield base.engine, adapter
            outcome = "ok"
        except Refusal as refusal:
            outcome = refusal.reason
            raise
        except Exception:
            outcome = "bug"
            raise
        finally:
            self._meters.requests.labels(base_label, adapter_label, kind, outcome).inc()
