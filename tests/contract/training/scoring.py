"""Stands for the serving service in a comparison: it answers what training expects, or with a fault.

What it stands for is compared with the real engine in tests/integration/training.
"""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from anneal.kit.errors import Refusal
from anneal.kit.options import GrpcOptions
from anneal.kit.runtime import Runtime, Service
from anneal.kit.settings import ServiceSettings
from anneal.kit.store import Store
from anneal.kit.testing import hosted
from anneal.v1 import inference_service_pb2 as pb
from anneal.v1.inference_service_pb2_grpc import InferenceServiceServicer, add_InferenceServiceServicer_to_server


class Scoring(InferenceServiceServicer):
    """Answers with the expectations of the trainings that are recorded in a store.

    Attributes:
        fault: raised instead of an answer.
        hangs: calls are taken and not answered.
        shift: added to every logprob.
        dtype: number format that it says it computes in.
        calls: calls so far.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self.fault: Refusal | None = None
        self.hangs = False
        self.shift = 0.0
        self.dtype = "float32"
        self.calls = 0

    async def Score(self, request: pb.ScoreRequest, context: Any) -> pb.ScoreResponse:
        self.calls += 1
        if self.fault is not None:
            raise self.fault
        if self.hangs:
            await asyncio.sleep(600)
        expected = self._expected(request)
        ids = expected["token_ids"][: expected["targets"][-1] + 1]
        # A training without expectations in this format has to compute them first; until then any answer will do.
        logprobs = expected["logprobs"].get(self.dtype, expected["logprobs"]["float32"])
        tokens = [pb.TokenLogprob()]
        tokens += [pb.TokenLogprob(logprob=logprob + self.shift) for logprob in logprobs[: len(ids) - 1]]
        return pb.ScoreResponse(token_ids=ids, tokens=tokens, dtype=self.dtype, engine="stand-in 1")

    def _expected(self, request: pb.ScoreRequest) -> dict[str, Any]:
        asked = [(m.role, m.content) for m in request.chat.messages]
        for _, record in self._store.records("trainings"):
            for one in json.loads(self._store.get_bytes(record["result"]))["parity"]:
                answer = one["token_ids"][one["targets"][0] :]
                if [(m["role"], m["content"]) for m in one["messages"]] == asked and answer == list(
                    request.continuation_ids
                ):
                    return dict(one)
        raise AssertionError(f"no training expects {asked}")

    def build(self, runtime: Runtime) -> Service:
        return Service(
            name="serving",
            add=lambda server: add_InferenceServiceServicer_to_server(self, server),
            grpc_services=("anneal.v1.InferenceService",),
        )

    @asynccontextmanager
    async def listening(self, folder: Path, port: int) -> AsyncIterator[None]:
        """Serve on a port of this machine."""
        settings = ServiceSettings(data_dir=folder, grpc=GrpcOptions(port=port, drain_s=0.1))
        async with hosted(folder, [self.build], settings=settings):
            yield


def scoring(store: Store) -> Scoring:
    return Scoring(store)  # type: ignore[abstract]  # what it leaves out answers UNIMPLEMENTED


def free_port() -> int:
    """A port of this machine that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
