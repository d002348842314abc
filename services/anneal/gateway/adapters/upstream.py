"""The services behind the gateway, over gRPC: names from the registry, answers from serving."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from dataclasses import dataclass
from typing import Any

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from anneal.gateway.domain.answers import Answer, Token
from anneal.gateway.domain.errors import ModelMissing
from anneal.gateway.domain.openai import ChatRequest, CompletionRequest
from anneal.kit.errors import Invalid, Kind, Missing, NotReady, TooLate
from anneal.kit.names import parse
from anneal.kit.rpc.status import decode_status, passed_on
from anneal.v1 import inference_service_pb2 as pb
from anneal.v1 import registry_service_pb2 as registry_pb
from anneal.v1.inference_service_pb2_grpc import InferenceServiceStub
from anneal.v1.registry_service_pb2_grpc import RegistryServiceStub

_DEADLINE_S = 10.0
_FINISH = {pb.FINISH_REASON_STOP: "stop", pb.FINISH_REASON_LENGTH: "length"}


@dataclass(frozen=True, slots=True)
class Listed:
    """A name apps can ask.

    Attributes:
        id: what they send as `model`.
        name: resource name.
        parent: id of the base model behind a deployment; None for a base model.
        created: seconds since 1970.
    """

    id: str
    name: str
    parent: str | None
    created: int


@dataclass(frozen=True, slots=True)
class Found:
    """Who is asked.

    Attributes:
        target: as serving names it.
        base_model: resource name of the base model, whose servers answer.
    """

    target: pb.InferenceTarget
    base_model: str


class Upstream:
    """Asks the registry and serving. Refusals come out as refusals, whatever the transport made of them."""

    def __init__(
        self, registry: grpc.aio.Channel, serving: Callable[[str], grpc.aio.Channel], deadline_s: float
    ) -> None:
        """Make it.

        Args:
            registry: channel to the registry.
            serving: the channel to the servers of a base model's resource name; to any server for an empty one.
            deadline_s: longest time for one answer.
        """
        self._registry = RegistryServiceStub(registry)
        self._serving = serving
        self._healths = [health_pb2_grpc.HealthStub(channel) for channel in (registry, serving(""))]
        self._deadline_s = deadline_s

    async def healthy(self) -> bool:
        """Whether registry and serving serve."""
        names = ("anneal.v1.RegistryService", "anneal.v1.InferenceService")
        try:
            for stub, name in zip(self._healths, names, strict=True):
                answer = await stub.Check(health_pb2.HealthCheckRequest(service=name), timeout=2.0)
                if answer.status != health_pb2.HealthCheckResponse.SERVING:
                    return False
        except grpc.aio.AioRpcError:
            return False
        return True

    async def reach_registry(self, project: str) -> None:
        """Ask the registry something, with this gateway's own credentials.

        Raises:
            NotReady: it does not answer, or not to this gateway.
        """
        request = registry_pb.ListModelsRequest(parent=f"projects/{project}", page_size=1)
        try:
            await self._registry.ListModels(request, timeout=_DEADLINE_S)
        except grpc.aio.AioRpcError as error:
            raise NotReady(f"the registry cannot be asked: {passed_on(error).message}") from error

    async def find(self, name: str, split_key: str) -> Found:
        """The deployment or base model of a resource name.

        Raises:
            ModelMissing: there is neither.
        """
        try:
            if "/models/" in name:
                parse(name, "model")
                model = await self._call(self._registry.GetModel, registry_pb.GetModelRequest(name=name))
                return Found(pb.InferenceTarget(base_model_digest=model.digest), name)
            parse(name, "deployment")
            deployment = await self._call(self._registry.GetDeployment, registry_pb.GetDeploymentRequest(name=name))
        except (Missing, Invalid):
            raise ModelMissing(f"the model {name!r} does not exist", model=name) from None
        return Found(pb.InferenceTarget(deployment=name, split_key=split_key), deployment.base_model)

    async def listed(self, project: str) -> list[Listed]:
        """Every deployment and base model of a project. Where both have one id, the deployment has it."""
        parent, found = f"projects/{project}", []
        deployments: Any = (self._registry.ListDeployments, registry_pb.ListDeploymentsRequest, "deployments")
        models: Any = (self._registry.ListModels, registry_pb.ListModelsRequest, "models")
        for method, request, field in (deployments, models):
            token = ""
            while True:
                page = await self._call(method, request(parent=parent, page_size=1000, page_token=token))
                for item in getattr(page, field):
                    base = _last(item.base_model) if field == "deployments" else None
                    found.append(Listed(_last(item.name), item.name, base, item.create_time.seconds))
                token = page.next_page_token
                if not token:
                    break
        seen: dict[str, Listed] = {}
        for one in found:
            seen.setdefault(one.id, one)
        return list(seen.values())

    async def chat(self, found: Found, request: ChatRequest, request_id: str) -> tuple[Answer, pb.Answerer]:
        """A whole answer to messages."""
        answer = await self._ask(self._stub(found).Chat, _chat(found.target, request), request_id)
        return decode_answer(answer), answer.answerer

    def stream_chat(self, found: Found, request: ChatRequest, request_id: str) -> AsyncGenerator[pb.GenerateResponse]:
        """An answer to messages as it is written."""
        return self._stream(self._stub(found).StreamChat, _chat(found.target, request), request_id)

    async def complete(
        self, found: Found, request: CompletionRequest, prompt: str, request_id: str
    ) -> tuple[Answer, pb.Answerer]:
        """A whole continuation of a text."""
        answer = await self._ask(self._stub(found).Generate, _completion(found.target, request, prompt), request_id)
        return decode_answer(answer), answer.answerer

    def stream_complete(
        self, found: Found, request: CompletionRequest, request_id: str
    ) -> AsyncGenerator[pb.GenerateResponse]:
        """A continuation as it is written."""
        return self._stream(
            self._stub(found).StreamGenerate, _completion(found.target, request, request.prompts[0]), request_id
        )

    def _stub(self, found: Found) -> InferenceServiceStub:
        return InferenceServiceStub(self._serving(found.base_model))

    async def _call(self, method: Any, request: Any) -> Any:
        try:
            return await method(request, timeout=_DEADLINE_S)
        except grpc.aio.AioRpcError as error:
            raise _refusal(error) from error

    async def _ask(self, method: Any, request: Any, request_id: str) -> pb.GenerateResponse:
        try:
            answer: pb.GenerateResponse = await method(
                request, timeout=self._deadline_s, metadata=(("x-request-id", request_id),)
            )
        except grpc.aio.AioRpcError as error:
            raise _refusal(error) from error
        return answer

    async def _stream(self, method: Any, request: Any, request_id: str) -> AsyncGenerator[pb.GenerateResponse]:
        """The pieces of a stream; leaving early cancels the call, and serving stops the generation."""
        call = method(request, timeout=self._deadline_s, metadata=(("x-request-id", request_id),))
        pieces: AsyncIterator[pb.GenerateResponse] = call
        try:
            async for piece in pieces:
                yield piece
        except grpc.aio.AioRpcError as error:
            raise _refusal(error) from error
        finally:
            call.cancel()


def decode_answer(answer: pb.GenerateResponse) -> Answer:
    """An answer, whole or a piece of it."""
    used = (answer.usage.prompt_tokens, answer.usage.completion_tokens) if answer.HasField("usage") else None
    tokens = tuple(_token(token) for token in answer.logprobs)
    return Answer(answer.text, _FINISH.get(answer.finish_reason), used, tokens, answer.reasoning)


def _token(token: pb.TokenLogprob) -> Token:
    return Token(token.text, token.logprob, tuple(_token(other) for other in token.top))


def _chat(target: pb.InferenceTarget, request: ChatRequest) -> pb.ChatRequest:
    pairs = [message.pair() for message in request.messages]
    return pb.ChatRequest(
        target=target,
        messages=[pb.ChatMessage(role=role, content=content) for role, content in pairs],
        sampling=_sampling(
            request, request.token_limit, request.logprob_count, request.json_schema, json_object=request.json_object
        ),
        tools_json=json.dumps(request.tools) if request.tools else "",
    )


def _completion(target: pb.InferenceTarget, request: CompletionRequest, prompt: str) -> pb.GenerateRequest:
    sampling = _sampling(request, request.token_limit, request.logprobs, "", json_object=False)
    return pb.GenerateRequest(target=target, prompt=prompt, sampling=sampling)


def _sampling(
    request: ChatRequest | CompletionRequest, limit: int, logprobs: int | None, schema: str, *, json_object: bool
) -> pb.SamplingParams:
    try:
        return pb.SamplingParams(
            max_tokens=limit,
            temperature=request.temperature,
            top_p=request.top_p,
            top_k=request.top_k or 0,
            stop=request.stops,
            seed=request.seed,
            presence_penalty=request.presence_penalty or 0.0,
            frequency_penalty=request.frequency_penalty or 0.0,
            json_schema=schema,
            json_object=json_object,
            logprobs=logprobs,
        )
    except ValueError as error:  # a number that does not fit the wire's type
        raise Invalid.field("sampling", str(error)) from error


def _refusal(error: grpc.aio.AioRpcError) -> Exception:
    """What to tell the app: refusals as they are; that our own rights are wrong is our bug, not the app's."""
    if error.code() is grpc.StatusCode.DEADLINE_EXCEEDED:
        return TooLate("the answer took longer than the gateway waits")
    found = decode_status(passed_on(error))
    if found is None or found.kind is Kind.DENIED:
        return RuntimeError(f"upstream: {error.code().name}: {error.details()}")
    return found


def _last(name: str) -> str:
    return name.rsplit("/", 1)[-1]
