"""InferenceService over a real channel, with a real engine behind it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable
from typing import Any

import grpc
import pytest

from anneal.kit.rpc.status import refusal_of
from anneal.v1 import inference_service_pb2 as pb
from tests.fixtures.serving import ServingWorld

pytestmark = [pytest.mark.vllm, pytest.mark.asyncio(loop_scope="session")]

ABSENT = "sha256:" + "0" * 64
GREEDY = pb.SamplingParams(max_tokens=12, temperature=0.0)
MESSAGES = [pb.ChatMessage(role="user", content="What does shutil.copy do?")]
# With `maxLength` sent to the engine, neither the quote nor the new line of a name could be written.
NAME = {"enum": ['say "hi"', "two\nlines"], "type": "string", "minLength": 1, "maxLength": 12, "pattern": "."}
SCHEMA = {
    "type": "object",
    "properties": {
        "kind": {"enum": ["function", "class"]},
        "count": {"type": "integer", "minimum": 1, "maximum": 9},
        "names": {"type": "array", "items": NAME, "minItems": 2, "maxItems": 2},
    },
    "required": ["kind", "count", "names"],
    "additionalProperties": False,
}


async def refusal(call: Awaitable[Any]) -> tuple[str, str]:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    found = refusal_of(caught.value)
    assert found is not None, caught.value
    return caught.value.code().name, found.reason


async def fields(call: Awaitable[Any]) -> list[str]:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    found: Any = refusal_of(caught.value)
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    return [path for path, _ in found.violations]


async def test_generate_says_who_answered_why_it_ended_and_what_it_used(serving_world: ServingWorld) -> None:
    request = pb.GenerateRequest(target=serving_world.target(0), prompt="def copy(", sampling=GREEDY)
    answer = await serving_world.inference.Generate(request)
    assert answer.answerer.base_model_digest == serving_world.base
    assert answer.answerer.adapter_digest == serving_world.adapters[0]
    assert answer.finish_reason == pb.FINISH_REASON_LENGTH
    assert answer.usage.completion_tokens == 12
    assert answer.usage.prompt_tokens > 0
    assert not answer.logprobs


async def test_a_stream_is_the_same_answer_in_pieces(serving_world: ServingWorld) -> None:
    request = pb.ChatRequest(target=serving_world.target(0), messages=MESSAGES, sampling=GREEDY)
    whole = await serving_world.inference.Chat(request)
    pieces = [piece async for piece in serving_world.inference.StreamChat(request)]
    assert "".join(piece.text for piece in pieces) == whole.text
    assert [piece.HasField("answerer") for piece in pieces] == [True] + [False] * (len(pieces) - 1)
    assert [piece.HasField("usage") for piece in pieces] == [False] * (len(pieces) - 1) + [True]
    assert pieces[-1].usage == whole.usage
    assert pieces[-1].finish_reason == whole.finish_reason
    text = pb.GenerateRequest(target=serving_world.target(0), prompt="def copy(", sampling=GREEDY)
    unary = await serving_world.inference.Generate(text)
    assert "".join([piece.text async for piece in serving_world.inference.StreamGenerate(text)]) == unary.text


async def test_adapters_answer_differently_from_their_base_and_alike_every_time(serving_world: ServingWorld) -> None:
    async def ask(adapter: int | None) -> str:
        request = pb.ChatRequest(target=serving_world.target(adapter), messages=MESSAGES, sampling=GREEDY)
        return (await serving_world.inference.Chat(request)).text

    alone = [await ask(who) for who in (None, 0, 1)]
    assert len(set(alone)) == 3
    # All in one batch: rows of the base and of two adapters must not touch each other.
    assert await asyncio.gather(*(ask(who) for who in (None, 0, 1, None, 0, 1))) == alone * 2


async def test_the_same_seed_gives_the_same_answer(serving_world: ServingWorld) -> None:
    async def ask(seed: int) -> str:
        sampling = pb.SamplingParams(max_tokens=12, temperature=1.0, seed=seed)
        request = pb.ChatRequest(target=serving_world.target(), messages=MESSAGES, sampling=sampling)
        return (await serving_world.inference.Chat(request)).text

    assert await ask(7) == await ask(7) != await ask(8)


async def test_more_seeded_prompts_at_once_than_fit_in_a_batch(serving_world: ServingWorld) -> None:
    async def ask(seed: int) -> str:
        sampling = pb.SamplingParams(max_tokens=4, temperature=1.0, seed=seed)
        prompt = f"x = {seed}\n" * 60
        request = pb.GenerateRequest(target=serving_world.target(seed % 2), prompt=prompt, sampling=sampling)
        return (await serving_world.inference.Generate(request)).text

    together = await asyncio.gather(*(ask(seed) for seed in range(12)))
    assert together[:2] == [await ask(0), await ask(1)]


async def test_a_stop_text_ends_the_answer_and_is_not_part_of_it(serving_world: ServingWorld) -> None:
    whole = await serving_world.inference.Generate(
        pb.GenerateRequest(
            target=serving_world.target(), prompt="import ", sampling=pb.SamplingParams(max_tokens=30, seed=3)
        )
    )
    stop = whole.text[len(whole.text) // 2 :][:3]
    sampling = pb.SamplingParams(max_tokens=30, seed=3, stop=[stop])
    cut = await serving_world.inference.Generate(
        pb.GenerateRequest(target=serving_world.target(), prompt="import ", sampling=sampling)
    )
    assert cut.finish_reason == pb.FINISH_REASON_STOP
    assert cut.text == whole.text[: whole.text.index(stop)]


async def test_logprobs_come_with_alternatives_best_first(serving_world: ServingWorld) -> None:
    sampling = pb.SamplingParams(max_tokens=4, temperature=0.0, logprobs=3)
    request = pb.GenerateRequest(target=serving_world.target(), prompt="def copy(", sampling=sampling)
    answer = await serving_world.inference.Generate(request)
    assert len(answer.logprobs) == 4
    for token in answer.logprobs:
        assert [other.logprob for other in token.top] == sorted((other.logprob for other in token.top), reverse=True)
        assert len(token.top) == 3
        assert token.token_id == token.top[0].token_id


async def test_a_schema_is_followed_and_limits_of_strings_do_not_break_it(serving_world: ServingWorld) -> None:
    for seed in range(3):
        sampling = pb.SamplingParams(max_tokens=64, temperature=1.0, seed=seed, json_schema=json.dumps(SCHEMA))
        request = pb.ChatRequest(target=serving_world.target(0), messages=MESSAGES, sampling=sampling)
        answer = await serving_world.inference.Chat(request)
        assert answer.finish_reason == pb.FINISH_REASON_STOP
        found = json.loads(answer.text)
        assert found["kind"] in ("function", "class")
        assert found["count"] in range(1, 10)
        assert set(found) == {"kind", "count", "names"}
        assert all(name in ('say "hi"', "two\nlines") for name in found["names"])
        assert len(found["names"]) == 2


async def test_tools_reach_the_template(serving_world: ServingWorld) -> None:
    tools = json.dumps([{"type": "function", "function": {"name": "look_up", "parameters": {}}}])
    plain = pb.ChatRequest(target=serving_world.target(), messages=MESSAGES, sampling=GREEDY)
    with_tools = pb.ChatRequest(target=serving_world.target(), messages=MESSAGES, sampling=GREEDY, tools_json=tools)
    answers = [await serving_world.inference.Chat(request) for request in (plain, with_tools)]
    assert answers[1].usage.prompt_tokens > answers[0].usage.prompt_tokens


async def test_a_deployment_splits_by_key_and_says_which_side(serving_world: ServingWorld) -> None:
    async def ask(key: str) -> pb.Answerer:
        target = pb.InferenceTarget(deployment=serving_world.deployment, split_key=key)
        sampling = pb.SamplingParams(max_tokens=1)
        request = pb.ChatRequest(target=target, messages=MESSAGES, sampling=sampling)
        return (await serving_world.inference.Chat(request)).answerer

    sides = {key: await ask(key) for key in (f"user-{i}" for i in range(20))}
    for key in list(sides)[:3]:
        assert await ask(key) == sides[key]
    assert {side.canary for side in sides.values()} == {True, False}
    for side in sides.values():
        assert side.deployment == serving_world.deployment
        assert side.adapter_digest == serving_world.adapters[1 if side.canary else 0]


async def test_score_gives_the_continuation_or_everything(serving_world: ServingWorld) -> None:
    request = pb.ScoreRequest(
        target=serving_world.target(0), chat=pb.ChatContext(messages=MESSAGES), continuation="It copies."
    )
    scored = await serving_world.inference.Score(request)
    request.include_context = True
    everything = await serving_world.inference.Score(request)
    assert scored.context_tokens + len(scored.tokens) == len(scored.token_ids) == len(everything.tokens)
    assert [token.token_id for token in everything.tokens] == list(scored.token_ids)
    assert "".join(token.text for token in scored.tokens) == "It copies.<|im_end|>"
    assert not everything.tokens[0].HasField("logprob")
    assert all(token.logprob < 0 for token in scored.tokens)
    by_ids = await serving_world.inference.Score(
        pb.ScoreRequest(target=serving_world.target(0), token_ids=pb.TokenIds(ids=scored.token_ids))
    )
    assert [t.logprob for t in by_ids.tokens[scored.context_tokens :]] == pytest.approx(
        [t.logprob for t in scored.tokens], abs=1e-5
    )


async def test_messages_and_the_scored_answer_may_be_empty(serving_world: ServingWorld) -> None:
    silent = [pb.ChatMessage(role="system"), pb.ChatMessage(role="user")]
    request = pb.ChatRequest(target=serving_world.target(0), messages=silent, sampling=GREEDY)
    assert (await serving_world.inference.Chat(request)).usage.prompt_tokens > 0
    scored = await serving_world.inference.Score(
        pb.ScoreRequest(target=serving_world.target(0), chat=pb.ChatContext(messages=silent))
    )
    assert [token.text for token in scored.tokens] == ["<|im_end|>"]


async def test_scores_do_not_depend_on_who_is_scored_beside_them(serving_world: ServingWorld) -> None:
    async def score(adapter: int | None) -> list[float]:
        request = pb.ScoreRequest(target=serving_world.target(adapter), prompt="import os\n", continuation="os.remove")
        return [token.logprob for token in (await serving_world.inference.Score(request)).tokens]

    alone = [await score(who) for who in (None, 0, 1)]
    together = await asyncio.gather(*(score(who) for who in (None, 0, 1, None, 0, 1)))
    for one, other in zip(alone * 2, together, strict=True):
        assert one == pytest.approx(other, abs=1e-5)
    assert alone[0] != pytest.approx(alone[1], abs=1e-3)


@pytest.mark.parametrize("method", ["Generate", "Chat", "Score"])
async def test_who_is_not_there_is_missing_by_name(serving_world: ServingWorld, method: str) -> None:
    async def ask(target: pb.InferenceTarget) -> tuple[str, str]:
        stub = serving_world.inference
        if method == "Generate":
            return await refusal(stub.Generate(pb.GenerateRequest(target=target, prompt="x")))
        if method == "Chat":
            return await refusal(stub.Chat(pb.ChatRequest(target=target, messages=MESSAGES)))
        return await refusal(stub.Score(pb.ScoreRequest(target=target, prompt="x", continuation="y")))

    deployment = pb.InferenceTarget(deployment="projects/demo/deployments/nobody")
    assert await ask(deployment) == ("NOT_FOUND", "DEPLOYMENT_MISSING")
    assert await ask(pb.InferenceTarget(base_model_digest=ABSENT)) == ("NOT_FOUND", "MODEL_MISSING")
    target = pb.InferenceTarget(base_model_digest=serving_world.base, adapter_digest=ABSENT)
    assert await ask(target) == ("NOT_FOUND", "ADAPTER_MISSING")


async def test_a_model_that_is_none_is_refused(serving_world: ServingWorld) -> None:
    digest = await asyncio.to_thread(serving_world.host.store.put_tree, serving_world.files.adapters[0])
    target = pb.InferenceTarget(base_model_digest=digest)
    request = pb.GenerateRequest(target=target, prompt="x")
    assert await refusal(serving_world.inference.Generate(request)) == ("FAILED_PRECONDITION", "MODEL_REFUSED")


async def test_wrong_requests_name_their_fields(serving_world: ServingWorld) -> None:
    stub, target = serving_world.inference, serving_world.target()
    both = pb.InferenceTarget(deployment=serving_world.deployment, base_model_digest=serving_world.base)
    assert await fields(stub.Generate(pb.GenerateRequest(target=both, prompt="x"))) == ["target"]
    nobody = pb.InferenceTarget(split_key="x")
    assert await fields(stub.Generate(pb.GenerateRequest(target=nobody, prompt="x"))) == ["target"]
    no_digest = pb.InferenceTarget(base_model_digest="latest")
    request = pb.GenerateRequest(target=no_digest, prompt="x")
    assert await fields(stub.Generate(request)) == ["target.base_model_digest"]
    no_name = pb.InferenceTarget(deployment="support-bot")
    assert await fields(stub.Generate(pb.GenerateRequest(target=no_name, prompt="x"))) == ["target.deployment"]
    assert await fields(stub.Generate(pb.GenerateRequest(target=target))) == ["prompt"]
    hot = pb.SamplingParams(temperature=3.0)
    request = pb.GenerateRequest(target=target, prompt="x", sampling=hot)
    assert await fields(stub.Generate(request)) == ["sampling.temperature"]
    strange = [pb.ChatMessage(role="robot", content="x")]
    assert await fields(stub.Chat(pb.ChatRequest(target=target, messages=strange))) == ["messages[0].role"]
    chat = pb.ChatRequest(target=target, messages=MESSAGES, tools_json="{}")
    assert await fields(stub.Chat(chat)) == ["tools_json"]
    schema = pb.SamplingParams(json_schema='{"type": "nonsense"}')
    chat = pb.ChatRequest(target=target, messages=MESSAGES, sampling=schema)
    assert await fields(stub.Chat(chat)) == ["sampling.json_schema"]
    score = pb.ScoreRequest(target=target, continuation="x")
    assert await fields(stub.Score(score)) == ["context"]
    assert await fields(stub.Score(pb.ScoreRequest(target=target, prompt="x"))) == ["continuation"]
    ids = pb.ScoreRequest(target=target, token_ids=pb.TokenIds(ids=[1, 2]), continuation="x")
    assert await fields(stub.Score(ids)) == ["continuation"]
    ids = pb.ScoreRequest(target=target, token_ids=pb.TokenIds(ids=[1, 10**6]))
    assert await fields(stub.Score(ids)) == ["token_ids.ids"]


async def test_a_prompt_without_room_for_an_answer_is_refused(serving_world: ServingWorld) -> None:
    stub, target = serving_world.inference, serving_world.target()
    request = pb.GenerateRequest(target=target, prompt="word " * 1100)
    assert await refusal(stub.Generate(request)) == ("INVALID_ARGUMENT", "PROMPT_TOO_LONG")
    score = pb.ScoreRequest(target=target, token_ids=pb.TokenIds(ids=[5] * 1024))
    assert await refusal(stub.Score(score)) == ("INVALID_ARGUMENT", "PROMPT_TOO_LONG")
    assert len((await stub.Score(pb.ScoreRequest(target=target, token_ids=pb.TokenIds(ids=[5] * 1023)))).tokens) == 1023


async def test_a_client_that_goes_away_stops_the_generation(serving_world: ServingWorld) -> None:
    def gone() -> float:
        return value("anneal_serving_requests_total", kind="stream", outcome="gone", adapter=adapter)

    def value(name: str, **labels: str) -> float:
        found = serving_world.host.runtime.metrics.registry.collect()
        samples = [s for family in found for s in family.samples if s.name == name]
        return sum(s.value for s in samples if labels.items() <= s.labels.items())

    adapter = serving_world.adapters[0][7:19]
    gone_before, written_before = gone(), value("vllm:generation_tokens_total")
    sampling = pb.SamplingParams(max_tokens=900, temperature=1.0, seed=1)
    request = pb.GenerateRequest(target=serving_world.target(0), prompt="def copy(", sampling=sampling)
    call = serving_world.inference.StreamGenerate(request)
    for _ in range(3):
        await call.read()
    call.cancel()
    async with asyncio.timeout(5):
        while gone() == gone_before:
            await asyncio.sleep(0.02)
    await asyncio.sleep(1.5)  # the engine's own figures are read once a second
    written = value("vllm:generation_tokens_total")
    assert 3 <= written - written_before < 300
    await asyncio.sleep(1.5)
    assert value("vllm:generation_tokens_total") == written
    assert value("vllm:num_requests_running") == 0


async def test_metrics_tell_of_requests_tokens_and_times(serving_world: ServingWorld) -> None:
    from prometheus_client import generate_latest

    request = pb.GenerateRequest(target=serving_world.target(1), prompt="def copy(", sampling=GREEDY)
    async for _ in serving_world.inference.StreamGenerate(request):
        pass
    text = generate_latest(serving_world.host.runtime.metrics.registry).decode()
    adapter = serving_world.adapters[1][7:19]
    for name in (
        "anneal_serving_requests_total",
        "anneal_serving_tokens_total",
        "anneal_serving_time_to_first_token_seconds_count",
        "anneal_serving_inter_token_seconds_count",
        "anneal_serving_adapter_load_seconds_count",
    ):
        assert any(line.startswith(name) and adapter in line for line in text.splitlines()), name
    assert any(line.startswith("anneal_serving_engine_start_seconds_count{") for line in text.splitlines())
    assert "vllm:num_requests_running" in text
