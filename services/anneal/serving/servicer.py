"""gRPC faces of serving. Nothing is decided and nothing is caught here."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any

from google.protobuf.empty_pb2 import Empty

from anneal.kit.digests import hex_of
from anneal.kit.pages import page
from anneal.serving import codec
from anneal.serving.domain.answers import Prompt
from anneal.serving.domain.errors import AdapterNotLoaded
from anneal.serving.engines import Engines
from anneal.serving.inference import Inference
from anneal.v1 import adapter_service_pb2 as adapters_pb
from anneal.v1 import inference_service_pb2 as pb
from anneal.v1.adapter_service_pb2_grpc import AdapterServiceServicer
from anneal.v1.inference_service_pb2_grpc import InferenceServiceServicer


class InferenceServicer(InferenceServiceServicer):
    """Serves `anneal.v1.InferenceService`."""

    def __init__(self, inference: Inference) -> None:
        self._inference = inference

    async def Generate(self, request: pb.GenerateRequest, context: Any) -> pb.GenerateResponse:
        """Continue a text."""
        return await self._answer(request, codec.decode_text(request))

    async def Chat(self, request: pb.ChatRequest, context: Any) -> pb.GenerateResponse:
        """Write the next message."""
        return await self._answer(request, codec.decode_chat(request.messages, request.tools_json))

    async def StreamGenerate(self, request: pb.GenerateRequest, context: Any) -> AsyncGenerator[pb.GenerateResponse]:
        """Continue a text, token by token."""
        async with aclosing(self._stream(request, codec.decode_text(request))) as messages:
            async for message in messages:
                yield message

    async def StreamChat(self, request: pb.ChatRequest, context: Any) -> AsyncGenerator[pb.GenerateResponse]:
        """Write the next message, token by token."""
        prompt = codec.decode_chat(request.messages, request.tools_json)
        async with aclosing(self._stream(request, prompt)) as messages:
            async for message in messages:
                yield message

    async def Score(self, request: pb.ScoreRequest, context: Any) -> pb.ScoreResponse:
        """Give the log probabilities of a continuation."""
        prompt = codec.decode_context(request)
        who = await self._inference.resolve(codec.decode_target(request.target))
        scored = await self._inference.score(who, prompt, codec.decode_continuation(request))
        return codec.encode_scored(scored, who, include_context=request.include_context)

    async def _answer(self, request: pb.GenerateRequest | pb.ChatRequest, prompt: Prompt) -> pb.GenerateResponse:
        sampling = codec.decode_sampling(request.sampling)
        who = await self._inference.resolve(codec.decode_target(request.target))
        return codec.encode_answer(await self._inference.answer(who, prompt, sampling), who)

    async def _stream(
        self, request: pb.GenerateRequest | pb.ChatRequest, prompt: Prompt
    ) -> AsyncGenerator[pb.GenerateResponse]:
        sampling = codec.decode_sampling(request.sampling)
        who = await self._inference.resolve(codec.decode_target(request.target))
        written, first = 0, True
        async with aclosing(self._inference.stream(who, prompt, sampling)) as pieces:
            async for piece in pieces:
                written += piece.token_count
                yield codec.encode_piece(piece, who if first else None, written)
                first = False


class AdapterServicer(AdapterServiceServicer):
    """Serves `anneal.v1.AdapterService`."""

    def __init__(self, engines: Engines) -> None:
        self._engines = engines

    async def LoadAdapter(self, request: adapters_pb.LoadAdapterRequest, context: Any) -> adapters_pb.LoadedAdapter:
        """Fetch, check and load an adapter."""
        _check_digests(request)
        base = await self._engines.get(request.base_model_digest)
        return codec.encode_loaded(await base.load(request.adapter_digest), base.digest)

    async def UnloadAdapter(self, request: adapters_pb.UnloadAdapterRequest, context: Any) -> Empty:
        """Take an adapter out."""
        _check_digests(request)
        for base in self._engines.served():
            if base.digest == request.base_model_digest:
                await base.unload(request.adapter_digest)
                return Empty()
        raise AdapterNotLoaded(
            f"no engine runs for base model {request.base_model_digest}", adapter=request.adapter_digest
        )

    async def ListLoadedAdapters(
        self, request: adapters_pb.ListLoadedAdaptersRequest, context: Any
    ) -> adapters_pb.ListLoadedAdaptersResponse:
        """List the adapters that are loaded, most recently used first."""
        wanted = page(request.page_size, request.page_token)
        start = int(wanted.after or 0)
        loaded = [
            codec.encode_loaded(resident, base.digest) for base in self._engines.served() for resident in base.residents
        ]
        end = start + wanted.size
        return codec.encode_loaded_page(loaded[start:end], wanted.token(end) if end < len(loaded) else "")


def _check_digests(request: adapters_pb.LoadAdapterRequest | adapters_pb.UnloadAdapterRequest) -> None:
    hex_of(request.base_model_digest, "base_model_digest")
    hex_of(request.adapter_digest, "adapter_digest")
