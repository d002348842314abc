"""A fake of the serving service: answers at once, so that tests of evaluation need no engine.

What it stands for is checked against the real engine in tests/integration/evaluation.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import Any

from anneal.kit.errors import Busy, Invalid, NotYet
from anneal.kit.runtime import Runtime, Service
from anneal.v1 import inference_service_pb2 as pb
from anneal.v1.inference_service_pb2_grpc import InferenceServiceServicer, add_InferenceServiceServicer_to_server


class EngineBusy(Busy):
    reason = "ENGINE_BUSY"


class PromptTooLong(Invalid):
    reason = "PROMPT_TOO_LONG"


class AdapterRefused(NotYet):
    reason = "ADAPTER_REFUSED"


class FakeServing(InferenceServiceServicer):
    """Adapters repeat what follows `Repeat: `, the base says `no`; words are tokens.

    Attributes:
        chats: how often each prompt was answered, by adapter digest and prompt.
        gate: answers wait for it.
        free: answers given before the gate counts.
        refused: digests of adapters it refuses.
        most_at_once: most requests in flight so far.
    """

    def __init__(self) -> None:
        self.chats: Counter[tuple[str, str]] = Counter()
        self.gate = asyncio.Event()
        self.gate.set()
        self.free = 0
        self.refused: set[str] = set()
        self.most_at_once = 0
        self._now = 0
        self._turned_away: set[str] = set()

    async def Chat(self, request: pb.ChatRequest, context: Any) -> pb.GenerateResponse:
        assert request.sampling.temperature == 0.0
        assert request.sampling.HasField("temperature")
        self._now += 1
        self.most_at_once = max(self.most_at_once, self._now)
        try:
            return await self._chat(request)
        finally:
            self._now -= 1

    async def _chat(self, request: pb.ChatRequest) -> pb.GenerateResponse:
        prompt = request.messages[-1].content
        adapter = request.target.adapter_digest
        if adapter in self.refused:
            raise AdapterRefused("it has the wrong rank", cause="rank")
        if "LONG" in prompt:
            raise PromptTooLong("the prompt leaves no room")
        if "BUSY" in prompt and prompt not in self._turned_away:
            self._turned_away.add(prompt)
            raise EngineBusy("no room", retry_after_s=0.01)
        self.chats[adapter, prompt] += 1
        if sum(self.chats.values()) > self.free:
            await self.gate.wait()
        await asyncio.sleep(0.005)
        text = prompt.removeprefix("Repeat: ") if adapter else "no"
        words = text.split()[: request.sampling.max_tokens]
        usage = pb.Usage(prompt_tokens=len(prompt.split()), completion_tokens=len(words))
        return pb.GenerateResponse(text=" ".join(words), finish_reason=pb.FINISH_REASON_STOP, usage=usage)

    async def Score(self, request: pb.ScoreRequest, context: Any) -> pb.ScoreResponse:
        logprob = -0.5 if request.target.adapter_digest else -2.0
        tokens = [*request.continuation.split(), "<|im_end|>"]
        return pb.ScoreResponse(tokens=[pb.TokenLogprob(text=text, logprob=logprob) for text in tokens])

    def build(self, runtime: Runtime) -> Service:
        return Service(
            name="serving",
            add=lambda server: add_InferenceServiceServicer_to_server(self, server),
            grpc_services=("anneal.v1.InferenceService",),
        )
