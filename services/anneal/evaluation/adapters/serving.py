"""Asking the serving service: one greedy answer, and the probability of the reference."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import replace
from time import perf_counter

import grpc

from anneal.evaluation.domain.answers import Answer
from anneal.evaluation.domain.plan import Target, Task
from anneal.evaluation.domain.questions import Question
from anneal.kit.rpc.status import refusal_of
from anneal.kit.rpc.waiting import Wait, call_patiently_async
from anneal.v1 import inference_service_pb2 as pb
from anneal.v1.inference_service_pb2_grpc import InferenceServiceStub

_FINISH = {pb.FINISH_REASON_STOP: "stop", pb.FINISH_REASON_LENGTH: "length"}


class Serving:
    """The serving service as evaluation sees it.

    A question the service calls invalid, such as a prompt longer than the context, is that question's own fault: its
    answer is absent and says why. Where there is no room or no server right now, it is asked again; the latency of an
    answer is that of the try that was answered. All else ends the evaluation.
    """

    def __init__(self, channel: grpc.aio.Channel, *, deadline_s: float, wait: Wait) -> None:
        self._stub = InferenceServiceStub(channel)
        self._deadline_s, self._wait = deadline_s, wait

    async def answer(
        self, target: Target, task: Task, question: Question, *, needs_answer: bool, needs_logprobs: bool
    ) -> Answer:
        """What the target makes of the question."""
        if question.cause:
            return Answer(cause=question.cause)
        answer = Answer()
        asked = pb.InferenceTarget(base_model_digest=target.base_digest, adapter_digest=target.adapter_digest)
        messages = [pb.ChatMessage(role=role, content=content) for role, content in question.messages]
        if needs_answer:
            answer = await self._or_cause(answer, lambda: self._chat(asked, messages, task, question))
        if needs_logprobs:
            answer = await self._or_cause(answer, lambda: self._score(answer, asked, messages, question))
        return answer

    async def _chat(
        self, asked: pb.InferenceTarget, messages: list[pb.ChatMessage], task: Task, question: Question
    ) -> Answer:
        request = pb.ChatRequest(
            target=asked,
            messages=messages,
            sampling=pb.SamplingParams(temperature=0.0, max_tokens=task.max_tokens),
            tools_json=question.tools,
        )
        start = perf_counter()
        said = await self._stub.Chat(request, timeout=self._deadline_s)
        return Answer(
            text=said.text,
            finish_reason=_FINISH.get(said.finish_reason, ""),
            tokens=said.usage.completion_tokens,
            latency_s=perf_counter() - start,
        )

    async def _score(
        self, answer: Answer, asked: pb.InferenceTarget, messages: list[pb.ChatMessage], question: Question
    ) -> Answer:
        request = pb.ScoreRequest(
            target=asked,
            chat=pb.ChatContext(messages=messages, tools_json=question.tools),
            continuation=question.reference or "",
        )
        scored = await self._stub.Score(request, timeout=self._deadline_s)
        logprobs = tuple(token.logprob for token in scored.tokens if token.HasField("logprob"))
        if len(logprobs) < len(scored.tokens) or not logprobs:
            return replace(answer, cause="LOGPROB_MISSING")
        return replace(answer, reference_logprobs=logprobs)

    async def _or_cause(self, before: Answer, ask: Callable[[], Awaitable[Answer]]) -> Answer:
        """The answer, or the one before with the reason why nothing could be added to it."""
        try:
            return await call_patiently_async(lambda _: ask(), self._wait)
        except grpc.aio.AioRpcError as error:
            if error.code() is not grpc.StatusCode.INVALID_ARGUMENT:
                raise
            refusal = refusal_of(error)
            return replace(before, cause="INVALID_REQUEST" if refusal is None else refusal.reason)
