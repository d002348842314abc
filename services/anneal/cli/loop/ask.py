"""Ask deployments: over gRPC and over the OpenAI-compatible endpoint with the official client, streamed and not."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from time import perf_counter
from typing import Any

from openai import OpenAI

from anneal.cli.client import Client
from anneal.cli.report import model
from anneal.v1 import dataset_pb2
from anneal.v1 import inference_service_pb2 as inference
from anneal.v1 import registry_service_pb2 as registry
from anneal.v1.deployment_pb2 import Deployment


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
class Gateway:
    """Where the OpenAI-compatible endpoint is.

    Attributes:
        place: its URL, or `host:port` where it speaks plain HTTP.
        key: the key it wants; empty where it wants none.
    """

    place: str
    key: str = ""

    @property
    def url(self) -> str:
        """The URL that OpenAI's clients are given."""
        return f"{self.place if '://' in self.place else f'http://{self.place}'}".rstrip("/") + "/v1"


class Asker:
    """Asks one deployment the same question in four ways."""

    def __init__(self, client: Client, gateway: Gateway, deployment: Deployment, max_tokens: int) -> None:
        self._inference = client.inference(deployment.base_model)
        self._deployment = deployment.name
        self._max_tokens = max_tokens
        self._openai = OpenAI(base_url=gateway.url, api_key=gateway.key or "none-needed", timeout=120)

    def __call__(self, task: str, row: dict[str, Any]) -> model.Question:
        """Ask what a row asks; its last message is the reference."""
        *asked, reference = row["messages"]
        ways = (
            ("gRPC", self._grpc),
            ("gRPC, streaming", self._grpc_stream),
            ("OpenAI HTTP", self._http),
            ("OpenAI HTTP, streaming", self._http_stream),
        )
        answers = []
        for via, way in ways:
            start, first, text = perf_counter(), None, ""
            for piece in way(asked):
                first = perf_counter() - start if first is None else first
                text += piece
            seconds = perf_counter() - start
            streamed = first if "streaming" in via else None
            answers.append(model.Answer(via=via, text=text, seconds=seconds, first_token_s=streamed))
        return model.Question(
            deployment=self._deployment,
            task=task,
            question="\n\n".join(message["content"] for message in asked),
            reference=reference["content"],
            answers=answers,
        )

    def _request(self, asked: list[dict[str, str]]) -> inference.ChatRequest:
        return inference.ChatRequest(
            target=inference.InferenceTarget(deployment=self._deployment),
            messages=[inference.ChatMessage(role=m["role"], content=m["content"]) for m in asked],
            sampling=inference.SamplingParams(temperature=0.0, max_tokens=self._max_tokens),
        )

    def _grpc(self, asked: list[dict[str, str]]) -> Iterator[str]:
        yield self._inference.Chat(self._request(asked)).text

    def _grpc_stream(self, asked: list[dict[str, str]]) -> Iterator[str]:
        for piece in self._inference.StreamChat(self._request(asked)):
            yield piece.text

    def _http(self, asked: list[dict[str, str]]) -> Iterator[str]:
        messages: Any = asked
        answer = self._openai.chat.completions.create(
            model=self._deployment, messages=messages, temperature=0, max_tokens=self._max_tokens
        )
        yield answer.choices[0].message.content or ""

    def _http_stream(self, asked: list[dict[str, str]]) -> Iterator[str]:
        messages: Any = asked
        stream = self._openai.chat.completions.create(
            model=self._deployment, messages=messages, temperature=0, max_tokens=self._max_tokens, stream=True
        )
        for chunk in stream:
            if chunk.choices and chunk.choices[0].delta.content:
                yield chunk.choices[0].delta.content
