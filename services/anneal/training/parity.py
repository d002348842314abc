"""Asks the serving service what training expects it to say: the same token ids, the same logprobs."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from importlib.metadata import version
from typing import Any, Protocol

import grpc

from anneal.kit.rpc.chat_messages import chat_message
from anneal.kit.rpc.waiting import Wait, call_patiently, result_of
from anneal.training.domain.agreement import (
    BOUNDS,
    Agreement,
    Compared,
    Tolerance,
    disagreements,
    is_too_weak,
    measure_agreement,
    tolerance_of,
)
from anneal.training.errors import EffectTooSmall, ParityFailed, ServingDtypeUnknown
from anneal.v1 import adapter_pb2
from anneal.v1 import inference_service_pb2 as pb
from anneal.v1.inference_service_pb2_grpc import InferenceServiceStub

CALL_DEADLINE_S = 300.0
"""Longest wait for one answer before it is asked for again; an engine that starts meanwhile goes on starting."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What serving said of one conversation: every token's id, and each one's logprob (None for the first).

    Attributes:
        token_ids: of the whole sequence.
        logprobs: in nats, one for each token.
        dtype: number format that the engine computed in.
        engine: the engine and its version.
    """

    token_ids: list[int]
    logprobs: list[float | None]
    dtype: str
    engine: str = ""


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
            dtype=said.dtype,
            engine=said.engine,
        )

    return score


class ExpectationsMissing(Exception):
    """Serving computes in a number format in which nothing is expected yet."""

    def __init__(self, dtype: str) -> None:
        """Keep the format's name."""
        super().__init__(dtype)
        self.dtype = dtype


def certify(
    expectations: Sequence[dict[str, Any]],
    score: Scorer,
    *,
    base_dtype: str = "",
    tolerance: float = 0.0,
    rms_tolerance: float = 0.0,
) -> adapter_pb2.ParityCertificate:
    """Compare every expected sample, and certify what was seen.

    Every token id must be equal. Logprobs are compared on the tokens an answer is made of, which are those the adapter
    was trained on, in the number format that serving says it computes in; see `domain.agreement` for what is measured.

    Args:
        expectations: with `logprobs` by number format and `base_logprobs`, as `domain.expectations` computes them.
        score: asks serving.
        base_dtype: what the base is stored in, for the certificate.
        tolerance: largest difference allowed, in nats; 0 takes the measured one.
        rms_tolerance: largest root mean square allowed, in nats; 0 takes the measured one.

    Raises:
        ParityFailed: there is nothing to compare, an id differs, or logprobs by more than rounding explains.
        EffectTooSmall: the adapter changes too little to tell in this number format.
        ServingDtypeUnknown: serving does not say what it computes in, or there is no tolerance for it.
        ExpectationsMissing: nothing is expected in the number format that serving computes in.
    """
    dtypes, engines, tokens = set[str](), set[str](), list[Compared]()
    for expected in expectations:
        said = score(expected)
        dtypes.add(said.dtype)
        engines.add(said.engine)
        dtype = _only_dtype(dtypes)
        if dtype not in expected["logprobs"]:
            raise ExpectationsMissing(dtype)
        tokens += _compare(expected, said, dtype)
    if not tokens:
        raise ParityFailed("there is no token to compare training and serving on")
    agreement = measure_agreement(tokens)
    measured = tolerance_of(agreement, dtype)
    allowed = replace(measured, largest=tolerance or measured.largest, rms=rms_tolerance or measured.rms)
    _check(agreement, allowed, dtype)
    return adapter_pb2.ParityCertificate(
        passed=True,
        sample_count=len(expectations),
        token_count=agreement.num_tokens,
        token_ids_equal=True,
        max_logprob_difference=agreement.largest,
        tolerance=allowed.largest,
        dtype=dtype,
        engines=", ".join([f"peft {version('peft')}", *sorted(engines - {""})]),
        base_dtype=base_dtype,
        rms_logprob_difference=agreement.rms,
        rms_tolerance=allowed.rms,
        effect=agreement.effect,
        effect_difference=agreement.effect_difference,
        effect_tolerance=allowed.effect,
        effect_resolution=agreement.effect_resolution,
        effect_kept=agreement.effect_kept,
        rounding=agreement.rounding,
    )


def _only_dtype(dtypes: set[str]) -> str:
    """The one number format that serving computes in.

    Raises:
        ServingDtypeUnknown: it names none, several, or one without a measured tolerance.
    """
    named = ", ".join(sorted(dtypes - {""}))
    if len(dtypes) > 1:
        raise ServingDtypeUnknown(
            f"serving answered in several number formats ({named}): its replicas must compute in the same one",
            dtypes=named,
        )
    if not named:
        raise ServingDtypeUnknown("serving does not say which number format it computes in: upgrade serving", dtypes="")
    if named not in BOUNDS:
        raise ServingDtypeUnknown(
            f"serving computes in {named}, and a tolerance is known for {', '.join(BOUNDS)} only: set serving's "
            "`dtype` to one of them",
            dtypes=named,
        )
    return named


def _compare(expected: dict[str, Any], said: Answer, dtype: str) -> list[Compared]:
    """The logprobs of one sample's answer tokens, by source.

    Raises:
        ParityFailed: a token id differs.
    """
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
    logprobs, again = expected["logprobs"], expected.get("logprobs_again", {}).get(dtype)
    return [
        Compared(
            expected=logprobs[dtype][i - 1],
            again=None if again is None else again[i - 1],
            served=said.logprobs[i],
            adapter=logprobs["float32"][i - 1],
            base=expected["base_logprobs"][i - 1],
        )
        for i in expected["targets"]
    ]


def _check(agreement: Agreement, allowed: Tolerance, dtype: str) -> None:
    """Check that serving agrees with training, and that this could be told.

    Raises:
        ParityFailed: it does not.
        EffectTooSmall: it could not.
    """
    facts: dict[str, Any] = {
        "dtype": dtype,
        "max_logprob_difference": f"{agreement.largest:.6g}",
        "tolerance": f"{allowed.largest:.6g}",
        "rms_logprob_difference": f"{agreement.rms:.6g}",
        "rms_tolerance": f"{allowed.rms:.6g}",
        "effect": f"{agreement.effect:.6g}",
        "effect_difference": f"{agreement.effect_difference:.6g}",
        "effect_tolerance": f"{allowed.effect:.6g}",
        "effect_resolution": f"{agreement.effect_resolution:.6g}",
    }
    if found := disagreements(agreement, allowed):
        raise ParityFailed(
            f"the adapter answers otherwise in serving than in training, both in {dtype}: {'; '.join(found)}; nothing "
            "is published",
            **facts,
        )
    if is_too_weak(agreement):
        raise EffectTooSmall(
            f"the adapter changes the logprobs of its answers by {agreement.effect:.3g} nats only (root mean square "
            f"over {agreement.num_tokens} tokens), and rounding in {dtype}, which serving computes in, hides "
            f"differences of {agreement.effect_resolution:.0%} of that: whether serving applies the adapter rightly "
            "cannot be certified, and most of what it learned would be rounded away. Train longer or with a higher "
            "learning rate, give the validation split more rows, or serve in float32; the weights are stored",
            **facts,
        )
