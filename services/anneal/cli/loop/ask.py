"""Ask deployments: over gRPC and over the OpenAI-compatible endpoint with the official client, streamed and not."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from time import perf_counter
from typing import Any

import grpc

from anneal.cli.client import Client
from anneal.cli.failures import explain
from anneal.cli.gateway import Gateway
from anneal.cli.loop.desk import LoopFailed
from anneal.cli.report import model
from anneal.kit.errors import Refusal
from anneal.kit.messages import said
from anneal.v1 import dataset_pb2
from anneal.v1 import inference_service_pb2 as inference
from anneal.v1 import registry_service_pb2 as registry
from anneal.v1.deployment_pb2 import Deployment


class AskFailed(LoopFailed):
    """A deployment did not answer; the text says over which way, and why."""


def questions(client: Client, dataset_version: str, split: str, n: int) -> list[dict[str, Any]]:
    """The first rows of a split, as JSON values."""
    request = registry.ReadRowsRequest(
        dataset_version=dataset_version,
        part=dataset_pb2.DatasetPart.DATASET_PART_ROWS,
        split=split,
        page_size=n,
    )
    return [json.loads(row.json) for row in client.registry.ReadRows(request).rows]


@dataclass(frozen=True, slots=True)
class _Way:
    """One way to ask: its name, and the address that is asked."""

    name: str
    address: str


class Asker:
    """Asks one deployment the same question in four ways."""

    def __init__(self, client: Client, gateway: Gateway, deployment: Deployment, max_tokens: int) -> None:
        self._inference = client.inference(deployment.base_model)
        self._address = client.address_of("serving", deployment.base_model)
        self._gateway = gateway
        self._deployment = deployment.name
        self._max_tokens = max_tokens

    def __call__(self, task: str, row: dict[str, Any]) -> model.Question:
        """Ask what a row asks; its last message is the reference.

        Raises:
            AskFailed: one of the four ways gave no answer.
        """
        *messages, reference = row["messages"]
        ways = (
            (_Way("gRPC", self._address), self._grpc),
            (_Way("gRPC, streaming", self._address), self._grpc_stream),
            (_Way("OpenAI HTTP", self._gateway.url), self._http),
            (_Way("OpenAI HTTP, streaming", self._gateway.url), self._http_stream),
        )
        answers = []
        for way, ask in ways:
            start, first, text = perf_counter(), None, ""
            try:
                for chunk in ask(messages):
                    first = perf_counter() - start if first is None else first
                    text += chunk
            except (grpc.RpcError, Refusal) as error:
                line = explain(error)
                where = "" if way.address in line else f" at {way.address}"
                raise AskFailed(f"{way.name}{where}: {line}") from error
            seconds = perf_counter() - start
            streamed = first if "streaming" in way.name else None
            answers.append(model.Answer(via=way.name, text=text, seconds=seconds, first_token_s=streamed))
        return model.Question(
            deployment=self._deployment,
            task=task,
            question="\n\n".join(said(message) for message in messages),
            reference=said(reference),
            answers=answers,
        )

    def _request(self, messages: list[dict[str, str]]) -> inference.ChatRequest:
        return inference.ChatRequest(
            target=inference.InferenceTarget(deployment=self._deployment),
            messages=[inference.ChatMessage(role=m["role"], content=m["content"]) for m in messages],
            sampling=inference.SamplingParams(temperature=0.0, max_tokens=self._max_tokens),
        )

    def _grpc(self, messages: list[dict[str, str]]) -> Iterator[str]:
        yield self._inference.Chat(self._request(messages)).text

    def _grpc_stream(self, messages: list[dict[str, str]]) -> Iterator[str]:
        for response in self._inference.StreamChat(self._request(messages)):
            yield response.text

    def _http(self, messages: list[dict[str, str]]) -> Iterator[str]:
        yield self._gateway.chat(self._deployment, messages, self._max_tokens)

    def _http_stream(self, messages: list[dict[str, str]]) -> Iterator[str]:
        yield from self._gateway.stream_chat(self._deployment, messages, self._max_tokens)
