"""The gateway where something fails: in the middle of a stream, while a body is sent, and with a body too long.

Registry and HTTP are real; serving is a fake that fails on demand, which no engine does.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, AsyncIterator
from pathlib import Path
from typing import Any

import openai
import pytest
from openai import AsyncOpenAI
from prometheus_client import CollectorRegistry

from anneal.gateway import bootstrap
from anneal.gateway.settings import GatewayOptions
from anneal.kit.errors import Down
from anneal.kit.metrics import Metrics
from anneal.kit.runtime import Runtime, Service
from anneal.kit.testing import hosted
from anneal.registry.bootstrap import build as build_registry
from anneal.v1 import inference_service_pb2 as pb
from anneal.v1 import model_pb2
from anneal.v1 import registry_service_pb2 as registry_pb
from anneal.v1.inference_service_pb2_grpc import add_InferenceServiceServicer_to_server
from anneal.v1.registry_service_pb2_grpc import RegistryServiceStub

MAX_BYTES = 2048


class Failing:
    """Writes two words; what it is asked says how it fails then."""

    Chat = Generate = StreamGenerate = Score = None

    async def StreamChat(self, request: pb.ChatRequest, context: Any) -> AsyncGenerator[pb.GenerateResponse]:
        for word in ("one ", "two "):
            yield pb.GenerateResponse(text=word, answerer=pb.Answerer(base_model_digest="sha256:" + "b" * 64))
        if request.messages[-1].content == "bug":
            raise KeyError("secret")
        raise Down("the engine ended while it answered")


def build_failing(runtime: Runtime) -> Service:
    failing: Any = Failing()
    return Service(
        name="serving",
        add=lambda server: add_InferenceServiceServicer_to_server(failing, server),
        grpc_services=("anneal.v1.InferenceService",),
    )


class Door:
    """A gateway's address and its metrics."""

    def __init__(self, address: str, registry: CollectorRegistry) -> None:
        self.address = address
        self._registry = registry

    def count(self, status: str) -> float:
        """Chat requests that ended with a status."""
        labels = {"route": "/v1/chat/completions", "status": status}
        return self._registry.get_sample_value("anneal_gateway_requests_total", labels) or 0.0

    async def send(self, text: str) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """Open a connection and send that."""
        host, port = self.address.split(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        writer.write(text.encode())
        await writer.drain()
        return reader, writer


@pytest.fixture
async def door(tmp_path: Path) -> AsyncIterator[Door]:
    async with hosted(tmp_path, [build_registry, build_failing]) as host:
        registry: Any = RegistryServiceStub(host.runtime.channel("registry"))
        model = model_pb2.Model(digest=host.store.put_bytes(b"base"))
        await registry.CreateModel(
            registry_pb.CreateModelRequest(parent="projects/default", model_id="tiny", model=model)
        )
        metrics = Metrics()
        options = GatewayOptions(max_body_bytes=MAX_BYTES, drain_s=1)
        server = bootstrap.build(host.runtime.channels, metrics, options)
        await server.start()
        try:
            yield Door(server.address, metrics.registry)
        finally:
            await server.stop()


@pytest.mark.parametrize(
    ("content", "code", "text"),
    [("bug", "internal", "this is a bug"), ("down", "service_down", "the engine ended")],
)
async def test_a_failure_in_the_middle_of_a_stream_is_an_event(door: Door, content: str, code: str, text: str) -> None:
    words: list[str | None] = []
    async with AsyncOpenAI(base_url=f"http://{door.address}/v1", api_key="x", max_retries=0) as client:
        stream = await client.chat.completions.create(
            model="tiny", messages=[{"role": "user", "content": content}], stream=True
        )

        async def read() -> None:
            async for chunk in stream:
                words.append(chunk.choices[0].delta.content)

        with pytest.raises(openai.APIError) as caught:
            await read()
    assert words == ["one ", "two "]
    assert caught.value.code == code
    assert caught.value.message.startswith(text)
    assert "secret" not in str(caught.value.body)


async def test_the_body_of_a_failed_stream_is_whole_http(door: Door) -> None:
    body = json.dumps({"model": "tiny", "messages": [{"role": "user", "content": "bug"}], "stream": True})
    head = f"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: {len(body)}\r\n\r\n"
    reader, writer = await door.send(head + body)
    answer = (await asyncio.wait_for(reader.read(), 10)).decode()
    writer.close()
    assert answer.endswith("0\r\n\r\n"), "the last chunk of the transfer is there"
    assert '"type":"server_error"' in answer
    assert "[DONE]" not in answer


async def test_a_client_that_goes_away_while_it_sends_is_no_bug(door: Door) -> None:
    _, writer = await door.send("POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-length: 1000\r\n\r\n{")
    await asyncio.sleep(0.2)
    writer.transport.abort()
    async with asyncio.timeout(5):
        while not door.count("499"):
            await asyncio.sleep(0.02)
    assert door.count("500") == 0


@pytest.mark.parametrize("length", [MAX_BYTES, MAX_BYTES + 1])
async def test_both_sides_of_the_longest_body(door: Door, length: int) -> None:
    body = "{" + " " * (length - 2) + "}"
    head = f"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: {length}\r\n\r\n"
    reader, writer = await door.send(head + body)
    answer = (await asyncio.wait_for(reader.read(), 10)).decode()
    writer.close()
    status, error = int(answer.split()[1]), json.loads(answer.split("\r\n\r\n", 1)[1])["error"]
    if length > MAX_BYTES:
        assert (status, error["code"], error["type"]) == (413, "body_too_large", "invalid_request_error")
        assert str(MAX_BYTES) in error["message"]
    else:
        assert (status, error["param"]) == (400, "model")
