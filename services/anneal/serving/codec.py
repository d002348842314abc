"""Messages of the contract to values of the domain, and back."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from typing import Any

from anneal.kit.errors import Invalid
from anneal.serving.domain.answers import (
    ChatPrompt,
    Continuation,
    Finish,
    Piece,
    Prompt,
    Scored,
    TextPrompt,
    TokenPrompt,
    TokenScore,
)
from anneal.serving.domain.residents import Resident
from anneal.serving.domain.sampling import Sampling, check_sampling
from anneal.serving.inference import Answerer, Target
from anneal.v1 import adapter_service_pb2
from anneal.v1 import inference_service_pb2 as pb

_ROLES = ("system", "user", "assistant", "tool")
_FINISH: dict[Finish | None, pb.FinishReason.ValueType] = {
    None: pb.FINISH_REASON_UNSPECIFIED,
    "stop": pb.FINISH_REASON_STOP,
    "length": pb.FINISH_REASON_LENGTH,
}


def decode_target(target: pb.InferenceTarget) -> Target:
    """Who is asked."""
    return Target(target.deployment, target.base_model_digest, target.adapter_digest, target.split_key)


def decode_sampling(params: pb.SamplingParams) -> Sampling:
    """How tokens are chosen, checked."""
    return check_sampling(
        max_tokens=params.max_tokens,
        temperature=params.temperature if params.HasField("temperature") else None,
        top_p=params.top_p if params.HasField("top_p") else None,
        top_k=params.top_k,
        stop=params.stop,
        seed=params.seed if params.HasField("seed") else None,
        presence_penalty=params.presence_penalty,
        frequency_penalty=params.frequency_penalty,
        json_schema=params.json_schema,
        json_object=params.json_object,
        logprobs=params.logprobs if params.HasField("logprobs") else None,
    )


def decode_text(request: pb.GenerateRequest) -> TextPrompt:
    """The text to go on with."""
    return TextPrompt(request.prompt)


def decode_chat(messages: Iterable[pb.ChatMessage], tools_json: str, at: str = "") -> ChatPrompt:
    """Messages and tools; `at` is where they stand in the request."""
    found = []
    for index, message in enumerate(messages):
        if message.role not in _ROLES:
            raise Invalid.field(f"{at}messages[{index}].role", f"{message.role[:40]!r} is none of {', '.join(_ROLES)}")
        found.append(_decode_message(message))
    return ChatPrompt(tuple(found), tuple(_decode_tools(tools_json, f"{at}tools_json")))


def _decode_message(message: pb.ChatMessage) -> dict[str, Any]:
    """A message as rows have it; what is empty is absent."""
    given = {field: getattr(message, field) for field in ("name", "tool_call_id", "reasoning")}
    calls = [{"id": call.id, "name": call.name, "arguments": call.arguments} for call in message.tool_calls]
    made: dict[str, Any] = {"role": message.role, "content": message.content}
    made.update({field: value for field, value in given.items() if value})
    return {**made, "tool_calls": calls} if calls else made


def _decode_tools(text: str, field: str) -> list[dict[str, Any]]:
    if not text:
        return []
    try:
        tools = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise Invalid.field(field, f"is no JSON: {error}") from None
    if not isinstance(tools, list) or not all(isinstance(tool, dict) for tool in tools):
        raise Invalid.field(field, "is no list of JSON objects")
    return tools


def decode_continuation(request: pb.ScoreRequest) -> Continuation:
    """What is scored after the context."""
    return Continuation(request.continuation, tuple(request.continuation_ids))


def decode_context(request: pb.ScoreRequest) -> Prompt:
    """What stands before the continuation."""
    if request.continuation and request.continuation_ids:
        raise Invalid.field("continuation_ids", "must be empty beside continuation")
    if request.continuation_ids and min(request.continuation_ids) < 0:
        raise Invalid.field("continuation_ids", "must not be below 0")
    match request.WhichOneof("context"):
        case "prompt":
            if not (request.continuation or request.continuation_ids):
                raise Invalid.field("continuation", "is required")
            return TextPrompt(request.prompt)
        case "chat":
            return decode_chat(request.chat.messages, request.chat.tools_json, "chat.")
        case "token_ids":
            if request.continuation or request.continuation_ids:
                raise Invalid.field("continuation", "must be empty beside token_ids")
            if min(request.token_ids.ids) < 0:
                raise Invalid.field("token_ids.ids", "must not be below 0")
            return TokenPrompt(tuple(request.token_ids.ids))
        case _:
            raise Invalid.field("context", "give a prompt, messages or token ids")


def encode_answerer(who: Answerer) -> pb.Answerer:
    """Who answered."""
    return pb.Answerer(
        base_model_digest=who.base_digest,
        adapter_digest=who.adapter_digest,
        deployment=who.deployment,
        canary=who.canary,
    )


def encode_score(score: TokenScore) -> pb.TokenLogprob:
    """A token with its log probability."""
    top = [encode_score(other) for other in score.top]
    return pb.TokenLogprob(token_id=score.token_id, text=score.text, logprob=score.logprob, top=top)


def encode_answer(piece: Piece, who: Answerer) -> pb.GenerateResponse:
    """A whole answer."""
    return encode_piece(piece, who, piece.token_count)


def encode_piece(piece: Piece, who: Answerer | None, written: int) -> pb.GenerateResponse:
    """A piece of a stream: who answers in the first, why it ended and what it used in the last.

    Args:
        piece: the piece.
        who: None in all but the first.
        written: tokens written so far, this piece's among them.
    """
    return pb.GenerateResponse(
        text=piece.text,
        reasoning=piece.reasoning,
        finish_reason=_FINISH[piece.finish],
        usage=pb.Usage(prompt_tokens=piece.prompt_tokens, completion_tokens=written) if piece.finish else None,
        answerer=encode_answerer(who) if who else None,
        logprobs=[encode_score(score) for score in piece.scores],
    )


def encode_scored(scored: Scored, who: Answerer, *, include_context: bool) -> pb.ScoreResponse:
    """Scores of the continuation, and of the context when they are wanted."""
    kept = scored.tokens if include_context else scored.tokens[scored.context_tokens :]
    return pb.ScoreResponse(
        tokens=[encode_score(token) for token in kept],
        context_tokens=scored.context_tokens,
        token_ids=[token.token_id for token in scored.tokens],
        answerer=encode_answerer(who),
        dtype=scored.dtype,
        engine=scored.engine,
    )


def encode_loaded(resident: Resident, base_digest: str) -> adapter_service_pb2.LoadedAdapter:
    """An adapter in an engine."""
    loaded = adapter_service_pb2.LoadedAdapter(
        adapter_digest=resident.digest,
        base_model_digest=base_digest,
        load_seconds=resident.load_seconds,
        active_requests=resident.pins,
    )
    loaded.load_time.FromMilliseconds(round(resident.load_time_s * 1000))
    return loaded


def encode_loaded_page(
    adapters: Sequence[adapter_service_pb2.LoadedAdapter], next_page_token: str
) -> adapter_service_pb2.ListLoadedAdaptersResponse:
    """A page of loaded adapters."""
    return adapter_service_pb2.ListLoadedAdaptersResponse(adapters=adapters, next_page_token=next_page_token)
