"""The gateway over real HTTP, asked by the official `openai` client, in front of real services."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
from collections.abc import AsyncIterator
from typing import Any

import openai
import pytest
import pytest_asyncio
from openai import AsyncOpenAI, OpenAI

from anneal.gateway import bootstrap
from anneal.gateway.settings import ApiKey, GatewayOptions
from anneal.kit.metrics import Metrics
from anneal.kit.rpc.channels import Channels
from anneal.v1.registry_service_pb2 import GetDeploymentRequest
from tests.fixtures.serving import ServingWorld

pytestmark = [pytest.mark.vllm, pytest.mark.asyncio(loop_scope="session")]

MODEL = "support-bot"
MESSAGES: Any = [{"role": "user", "content": "What does shutil.copy do?"}]
SECRET = "sk-anneal-test"


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def address(serving_world: ServingWorld) -> AsyncIterator[str]:
    server, where = await bootstrap.start(serving_world.host.runtime, options=GatewayOptions(project="demo", drain_s=2))
    yield where
    await server.stop()


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def client(address: str) -> AsyncIterator[AsyncOpenAI]:
    async with AsyncOpenAI(base_url=f"http://{address}/v1", api_key="unused", max_retries=0) as found:
        yield found


async def raw(address: str, text: str) -> tuple[int, dict[str, str], Any]:
    """Send bytes as they are and read one answer."""
    host, port = address.split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(text.encode())
    await writer.drain()
    head = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
    headers = {k.lower(): v for k, v in (line.split(": ", 1) for line in head[1:] if ": " in line)}
    body = await reader.readexactly(int(headers["content-length"]))
    writer.close()
    return int(head[0].split()[1]), headers, json.loads(body) if body.startswith(b"{") else body.decode()


async def get(address: str, path: str, *more: str) -> tuple[int, dict[str, str], Any]:
    return await raw(address, "\r\n".join([f"GET {path} HTTP/1.1", "host: x", *more, "", ""]))


async def post(address: str, body: str, path: str = "/v1/chat/completions") -> tuple[int, dict[str, str], Any]:
    head = f"POST {path} HTTP/1.1\r\nhost: x\r\ncontent-length: {len(body.encode())}\r\n\r\n"
    return await raw(address, head + body)


async def test_models_are_deployments_and_bases(client: AsyncOpenAI) -> None:
    listed = {model.id: model for model in (await client.models.list()).data}
    assert set(listed) == {MODEL, "toy"}
    extra: Any = listed[MODEL].model_extra
    assert (extra["parent"], extra["root"]) == ("toy", "projects/demo/deployments/support-bot")
    assert listed[MODEL].created > 0
    assert (await client.models.retrieve("toy")).object == "model"
    with pytest.raises(openai.NotFoundError):
        await client.models.retrieve("nobody")


async def test_a_chat_answer_says_who_gave_it(client: AsyncOpenAI, serving_world: ServingWorld) -> None:
    raw_answer = await client.chat.completions.with_raw_response.create(
        model=MODEL, messages=MESSAGES, max_tokens=8, temperature=0, extra_headers={"x-request-id": "mine-1"}
    )
    answer = raw_answer.parse()
    assert answer.choices[0].finish_reason == "length"
    assert answer.choices[0].message.role == "assistant"
    assert answer.usage is not None
    assert answer.usage.completion_tokens == 8
    assert answer.usage.total_tokens == answer.usage.prompt_tokens + 8
    assert answer.model == MODEL
    assert raw_answer.headers["x-request-id"] == "mine-1"
    assert raw_answer.headers["x-anneal-base-digest"] == serving_world.base
    assert raw_answer.headers["x-anneal-adapter-digest"] in serving_world.adapters


async def test_short_and_full_names_of_deployments_and_models(client: AsyncOpenAI) -> None:
    async def ask(model: str) -> str:
        answer = await client.chat.completions.create(
            model=model, messages=MESSAGES, max_tokens=8, temperature=0, user="one"
        )
        return answer.choices[0].message.content or ""

    assert await ask(MODEL) == await ask("projects/demo/deployments/support-bot")
    assert await ask("toy") == await ask("projects/demo/models/toy") != await ask(MODEL)


async def test_a_stream_is_the_same_answer_and_ends_with_its_usage(client: AsyncOpenAI) -> None:
    choices: Any = {"model": MODEL, "messages": MESSAGES, "max_tokens": 12, "temperature": 0, "user": "one"}
    whole = await client.chat.completions.create(**choices)
    stream = await client.chat.completions.create(**choices, stream=True, stream_options={"include_usage": True})
    chunks = [chunk async for chunk in stream]
    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
    assert text == whole.choices[0].message.content
    assert chunks[0].choices[0].delta.role == "assistant"
    assert [chunk.choices[0].finish_reason for chunk in chunks if chunk.choices][-1] == "length"
    assert chunks[-1].choices == []
    assert chunks[-1].usage == whole.usage
    assert len({chunk.id for chunk in chunks}) == 1
    without = [chunk async for chunk in await client.chat.completions.create(**choices, stream=True)]
    assert all(chunk.usage is None and chunk.choices for chunk in without)


async def test_the_blocking_client_works_as_well(address: str) -> None:
    def ask() -> tuple[str, str]:
        with OpenAI(base_url=f"http://{address}/v1", api_key="unused", max_retries=0) as client:
            choices: Any = {"model": MODEL, "messages": MESSAGES, "max_tokens": 6, "temperature": 0, "user": "one"}
            whole = client.chat.completions.create(**choices)
            stream = client.chat.completions.create(**choices, stream=True)
            return whole.choices[0].message.content or "", "".join(
                chunk.choices[0].delta.content or "" for chunk in stream
            )

    whole, streamed = await asyncio.to_thread(ask)
    assert whole == streamed


async def test_text_completions_of_one_and_several_prompts(client: AsyncOpenAI) -> None:
    one = await client.completions.create(model="toy", prompt="import os", max_tokens=5, temperature=0, logprobs=2)
    several = await client.completions.create(model="toy", prompt=["x", "import os"], max_tokens=5, temperature=0)
    assert several.choices[1].text == one.choices[0].text
    assert [choice.index for choice in several.choices] == [0, 1]
    assert several.usage is not None
    assert several.usage.completion_tokens == 10
    logprobs = one.choices[0].logprobs
    assert logprobs is not None
    assert logprobs.tokens is not None
    assert "".join(logprobs.tokens) == one.choices[0].text
    stream = await client.completions.create(model="toy", prompt="import os", max_tokens=5, temperature=0, stream=True)
    assert "".join([chunk.choices[0].text async for chunk in stream]) == one.choices[0].text


async def test_logprobs_of_a_chat(client: AsyncOpenAI) -> None:
    answer = await client.chat.completions.create(
        model="toy", messages=MESSAGES, max_tokens=3, temperature=0, logprobs=True, top_logprobs=2
    )
    logprobs = answer.choices[0].logprobs
    assert logprobs is not None
    assert logprobs.content is not None
    assert [len(token.top_logprobs) for token in logprobs.content] == [2, 2, 2]
    assert all(token.logprob == token.top_logprobs[0].logprob for token in logprobs.content)


async def test_messages_may_be_empty(client: AsyncOpenAI) -> None:
    silent: Any = [{"role": "system", "content": ""}, {"role": "user", "content": ""}]
    answer = await client.chat.completions.create(model=MODEL, messages=silent, max_tokens=2, temperature=0)
    assert answer.usage is not None
    assert answer.usage.completion_tokens == 2


async def test_a_schema_is_followed(client: AsyncOpenAI) -> None:
    schema = {"type": "object", "properties": {"kind": {"enum": ["a", "b"]}}, "required": ["kind"]}
    answer = await client.chat.completions.create(
        model=MODEL,
        messages=MESSAGES,
        max_tokens=64,
        response_format={
            "type": "json_schema",
            "json_schema": {"name": "kind", "strict": True, "schema": {**schema, "additionalProperties": False}},
        },
    )
    assert json.loads(answer.choices[0].message.content or "")["kind"] in ("a", "b")


async def test_an_unknown_model_is_not_found(client: AsyncOpenAI) -> None:
    for model in ("nobody", "projects/demo/deployments/nobody", "projects/x/models/toy", "No Name", "projects/a/b"):
        with pytest.raises(openai.NotFoundError) as caught:
            await client.chat.completions.create(model=model, messages=MESSAGES)
        assert caught.value.code == "model_not_found"
        with pytest.raises(openai.NotFoundError):
            await client.chat.completions.create(model=model, messages=MESSAGES, stream=True)


async def test_refusals_name_their_parameter(client: AsyncOpenAI) -> None:
    async def parameter(**choices: Any) -> tuple[str | None, str | None]:
        with pytest.raises(openai.BadRequestError) as caught:
            await client.chat.completions.create(**{"model": MODEL, "messages": MESSAGES, **choices})
        return caught.value.param, caught.value.code

    assert await parameter(n=2) == ("n", "unsupported_parameter")
    assert await parameter(temperature=3) == ("temperature", "invalid_request")
    assert await parameter(extra_body={"temprature": 1}) == ("temprature", "invalid_request")
    assert await parameter(messages=[{"role": "user", "content": "word " * 1100}]) == (
        "prompt",
        "context_length_exceeded",
    )
    schema = {"type": "json_schema", "json_schema": {"name": "x", "schema": {"type": "nonsense"}}}
    assert (await parameter(response_format=schema))[0] == "response_format"
    assert (await parameter(temperature=3, stream=True))[0] == "temperature"


async def test_what_is_no_request_is_refused(address: str) -> None:
    status, _, body = await post(address, "{")
    assert (status, body["error"]["param"]) == (400, "body")
    status, _, body = await post(address, "[" * 20_000)
    assert (status, body["error"]["type"]) == (400, "invalid_request_error")
    status, _, body = await get(address, "/v1/nothing")
    assert (status, body["error"]["code"]) == (404, "unknown_url")
    status, _, body = await get(address, "/v1/completions")
    assert (status, body["error"]["code"]) == (405, "method_not_allowed")


async def test_health_and_metrics(address: str) -> None:
    assert (await get(address, "/health"))[0] == 200
    status, _, text = await get(address, "/metrics")
    assert status == 200
    assert "anneal_gateway_requests_total" in text
    assert "anneal_serving_requests_total" in text


async def test_a_client_that_goes_away_stops_the_generation(address: str, serving_world: ServingWorld) -> None:
    def gone() -> float:
        found = serving_world.host.runtime.metrics.registry.collect()
        samples = [s for family in found for s in family.samples if s.name == "anneal_serving_requests_total"]
        return sum(s.value for s in samples if s.labels["outcome"] == "gone")

    for stream in (True, False):
        before = gone()
        host, port = address.split(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        body = json.dumps({"model": MODEL, "messages": MESSAGES, "max_tokens": 1000, "stream": stream})
        writer.write(
            f"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-length: {len(body)}\r\n\r\n{body}".encode()
        )
        await writer.drain()
        if stream:
            await reader.readuntil(b"data: ")
        else:
            await asyncio.sleep(0.3)
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()
        async with asyncio.timeout(5):
            while gone() == before:
                await asyncio.sleep(0.02)


async def test_keys_are_asked_for_and_keep_to_their_project(serving_world: ServingWorld) -> None:
    keys = (
        ApiKey(name="ours", sha256=hashlib.sha256(SECRET.encode()).hexdigest(), project="demo"),
        ApiKey(name="theirs", sha256=hashlib.sha256(b"other").hexdigest(), project="elsewhere"),
    )
    server = bootstrap.build(serving_world.host.channels, Metrics(), GatewayOptions(keys=keys, drain_s=1))
    await server.start()
    where = server.address
    try:
        base_url = f"http://{where}/v1"
        async with AsyncOpenAI(base_url=base_url, api_key="wrong", max_retries=0) as client:
            with pytest.raises(openai.AuthenticationError) as caught:
                await client.models.list()
            assert caught.value.code == "invalid_api_key"
        async with AsyncOpenAI(base_url=base_url, api_key=SECRET, max_retries=0) as client:
            assert (await client.models.retrieve(MODEL)).id == MODEL
            await client.chat.completions.create(model=MODEL, messages=MESSAGES, max_tokens=1)
        async with AsyncOpenAI(base_url=base_url, api_key="other", max_retries=0) as client:
            with pytest.raises(openai.NotFoundError):
                await client.chat.completions.create(model="projects/demo/models/toy", messages=MESSAGES)
        assert (await get(where, "/health"))[0] == 200
        assert (await get(where, "/metrics"))[0] == 401
    finally:
        await server.stop()


async def test_a_base_model_with_servers_of_its_own_is_asked_there(serving_world: ServingWorld) -> None:
    """`serving` leads nowhere here; only the base model's own address answers."""
    address = serving_world.host.address
    deployment = GetDeploymentRequest(name=serving_world.deployment)
    base = (await serving_world.registry.GetDeployment(deployment)).base_model
    addresses = {"registry": address, "serving": "127.0.0.1:1", f"serving/{base}": address}
    channels = Channels(addresses)
    server = bootstrap.build(channels, Metrics(), GatewayOptions(project="demo", drain_s=2))
    await server.start()
    try:
        async with AsyncOpenAI(base_url=f"http://{server.address}/v1", api_key="unused", max_retries=0) as asked:
            for model in (MODEL, base.rsplit("/", 1)[1]):
                answer = await asked.chat.completions.create(model=model, messages=MESSAGES, max_tokens=2)
                assert answer.choices[0].message.content is not None
    finally:
        await server.stop()
        await channels.close()
