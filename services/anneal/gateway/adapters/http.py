"""The HTTP face: FastAPI routes of the OpenAI protocol."""

from __future__ import annotations

import asyncio
import json
import time
import uuid
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Coroutine, Sequence
from contextlib import aclosing
from typing import Any, TypeVar

from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse, Response, StreamingResponse
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from anneal.gateway.adapters.upstream import Listed, Upstream, decode_answer
from anneal.gateway.domain import answers
from anneal.gateway.domain.access import Caller, Key, caller_of, names_of, request_id_of
from anneal.gateway.domain.answers import Answer, Envelope
from anneal.gateway.domain.errors import BodyTooLarge, ModelMissing, bug, describe, error_object
from anneal.gateway.domain.openai import ChatRequest, CompletionRequest, read_chat, read_completion
from anneal.kit import logs
from anneal.kit.errors import Invalid, Refusal
from anneal.v1 import inference_service_pb2 as pb

_OPEN_ROUTES = ("/health",)
_CLIENT_GONE = 499
"""nginx's status for a client that closed its connection; nobody reads it but the metrics."""

_LATENCY_S = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300)
_Answer = TypeVar("_Answer")
Handler = Callable[[Request], Awaitable[Response]]
Chunk = Callable[[Envelope, Answer, str | None], dict[str, Any]]
"""Makes an event of a piece; the third argument is the text before it, None for the first piece."""


class ClientGone(Exception):
    """The client closed its connection before it had its answer."""


class HttpMeters:
    """What the gateway measures."""

    def __init__(self, registry: CollectorRegistry) -> None:
        labels = ("route", "status")
        self.requests = Counter("anneal_gateway_requests_total", "HTTP requests.", labels, registry=registry)
        self.seconds = Histogram(
            "anneal_gateway_request_seconds",
            "From a request to the head of its answer.",
            ("route",),
            registry=registry,
            buckets=_LATENCY_S,
        )
        self.streams = Gauge("anneal_gateway_streams", "Streams being written.", registry=registry)


class Gateway:
    """Answers HTTP requests with what serving says."""

    def __init__(
        self,
        upstream: Upstream,
        registry: CollectorRegistry,
        *,
        keys: Sequence[Key],
        project: str,
        max_body_bytes: int,
    ) -> None:
        self._upstream = upstream
        self._registry = registry
        self._keys, self._project, self._max_body_bytes = tuple(keys), project, max_body_bytes
        self._meters = HttpMeters(registry)
        self._log = logs.logger("gateway")

    def app(self) -> FastAPI:
        """The ASGI application."""
        routes = [
            ("/v1/models", self.models, "GET"),
            ("/v1/models/{model:path}", self.model, "GET"),
            ("/v1/chat/completions", self.chat, "POST"),
            ("/v1/completions", self.complete, "POST"),
            ("/health", self.health, "GET"),
            ("/metrics", self.metrics, "GET"),
        ]
        app = FastAPI(openapi_url=None)
        for path, handler, verb in routes:
            app.add_route(path, self._guarded(path, handler), methods=[verb])
        app.add_exception_handler(404, _no_such_route)
        app.add_exception_handler(405, _no_such_method)
        return app

    def _guarded(self, route: str, handler: Handler) -> Handler:
        """Credentials, errors, request id, metrics and one log line around a route."""

        async def guarded(request: Request) -> Response:
            start = time.perf_counter()
            request.state.id = request_id_of(request.headers.get("x-request-id", ""), f"req_{uuid.uuid4().hex}")
            try:
                if route not in _OPEN_ROUTES:
                    header = request.headers.get("authorization", "")
                    request.state.caller = caller_of(header, self._keys, self._project)
                response = await handler(request)
            except Refusal as refusal:
                response = _refused(refusal)
            except ClientGone:
                response = Response(status_code=_CLIENT_GONE)
            except Exception:  # noqa: BLE001 - the one place where a bug becomes a 500
                self._log.exception("bug", route=route)
                status, what = bug()
                response = JSONResponse(what, status_code=status)
            response.headers["x-request-id"] = request.state.id
            took_s = time.perf_counter() - start
            status = response.status_code
            self._meters.requests.labels(route, str(status)).inc()
            self._meters.seconds.labels(route).observe(took_s)
            self._log.info("http", route=route, status=status, ms=round(took_s * 1000, 1), id=request.state.id)
            return response

        return guarded

    async def health(self, request: Request) -> Response:
        """200 while registry and serving serve, else 503."""
        well = await self._upstream.healthy()
        return JSONResponse({"status": "ok" if well else "unavailable"}, status_code=200 if well else 503)

    async def metrics(self, request: Request) -> Response:
        """Prometheus metrics of this process."""
        return Response(generate_latest(self._registry), media_type=CONTENT_TYPE_LATEST)

    async def models(self, request: Request) -> Response:
        """Deployments and base models of the caller's project."""
        listed = await self._upstream.listed(request.state.caller.project)
        return JSONResponse({"object": "list", "data": [_model(one) for one in listed]})

    async def model(self, request: Request) -> Response:
        """One of them."""
        model = request.path_params["model"]
        names = names_of(model, request.state.caller)
        for one in await self._upstream.listed(names[0].split("/")[1]):
            if one.name in names:
                return JSONResponse({**_model(one), "id": model})
        raise ModelMissing(f"the model {model!r} does not exist", model=model)

    async def chat(self, request: Request) -> Response:
        """The next message of a conversation."""
        body = read_chat(await self._body(request))
        target = await self._find(body.model, request.state.caller, body.user or "")
        with_logprobs = body.logprob_count is not None
        if body.stream:
            pieces = self._upstream.stream_chat(target, body, request.state.id)

            def chunk(envelope: Envelope, piece: Answer, before: str | None) -> dict[str, Any]:
                return answers.chat_chunk(envelope, piece, first=before is None, with_logprobs=with_logprobs)

            return await self._stream(request, body, pieces, "chatcmpl", "chat.completion.chunk", chunk)
        answer, who = await _until_gone(request, self._upstream.chat(target, body, request.state.id))
        envelope = _envelope("chatcmpl", body.model, who)
        return JSONResponse(answers.chat_answer(envelope, answer, with_logprobs=with_logprobs), headers=_headers(who))

    async def complete(self, request: Request) -> Response:
        """The continuation of a text, or of several."""
        body = read_completion(await self._body(request))
        target = await self._find(body.model, request.state.caller, body.user or "")
        with_logprobs = body.logprobs is not None
        if body.stream:
            pieces = self._upstream.stream_complete(target, body, request.state.id)

            def chunk(envelope: Envelope, piece: Answer, before: str | None) -> dict[str, Any]:
                choice = answers.completion_choice(0, piece, with_logprobs=with_logprobs, offset=len(before or ""))
                return envelope.wrap("text_completion", [choice])

            return await self._stream(request, body, pieces, "cmpl", "text_completion", chunk)
        calls = [self._upstream.complete(target, body, prompt, request.state.id) for prompt in body.prompts]
        done = await _until_gone(request, _all(calls))
        who = done[0][1]
        choices = [answers.completion_choice(i, a, with_logprobs=with_logprobs) for i, (a, _) in enumerate(done)]
        used = answers.usage([answer.usage or (0, 0) for answer, _ in done])
        return JSONResponse(
            _envelope("cmpl", body.model, who).wrap("text_completion", choices, usage=used), headers=_headers(who)
        )

    async def _stream(
        self,
        request: Request,
        body: ChatRequest | CompletionRequest,
        pieces: AsyncGenerator[pb.GenerateResponse],
        prefix: str,
        kind: str,
        chunk: Chunk,
    ) -> Response:
        """Server-sent events. The first piece is awaited, so that a refusal still has its own status."""
        first = await _until_gone(request, anext(pieces))
        envelope = _envelope(prefix, body.model, first.answerer)

        async def events() -> AsyncIterator[bytes]:
            piece, text = decode_answer(first), ""
            with self._meters.streams.track_inprogress():
                async with aclosing(pieces):
                    yield _event(chunk(envelope, piece, None))
                    try:
                        async for message in pieces:
                            text += piece.text
                            piece = decode_answer(message)
                            yield _event(chunk(envelope, piece, text))
                    except Refusal as refusal:
                        yield _event(describe(refusal)[1])
                        return
                    if body.wants_usage:
                        yield _event(envelope.wrap(kind, [], usage=answers.usage([piece.usage or (0, 0)])))
                    yield b"data: [DONE]\n\n"

        headers = {**_headers(first.answerer), "cache-control": "no-cache"}
        return StreamingResponse(events(), media_type="text/event-stream", headers=headers)

    async def _find(self, model: str, caller: Caller, user: str) -> pb.InferenceTarget:
        """Who is asked; a user always falls on the same side of a canary split."""
        names = names_of(model, caller)
        for name in names[:-1]:
            try:
                return await self._upstream.find(name, user)
            except ModelMissing:
                continue
        try:
            return await self._upstream.find(names[-1], user)
        except ModelMissing:
            raise ModelMissing(f"the model {model!r} does not exist", model=model) from None

    async def _body(self, request: Request) -> Any:
        read = bytearray()
        async for piece in request.stream():
            read += piece
            if len(read) > self._max_body_bytes:
                raise BodyTooLarge(f"the request is longer than {self._max_body_bytes} bytes")
        try:
            return json.loads(bytes(read))
        except (ValueError, RecursionError) as error:
            raise Invalid.field("body", f"is no JSON: {error}") from None


async def _all(calls: Sequence[Coroutine[Any, Any, _Answer]]) -> list[_Answer]:
    """The results of all calls; when one fails, the others end as well."""
    tasks = [asyncio.ensure_future(call) for call in calls]
    try:
        return await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()


async def _until_gone(request: Request, work: Awaitable[_Answer]) -> _Answer:
    """The result of the work, which is cancelled when the client goes away before.

    Raises:
        ClientGone: it did.
    """
    task = asyncio.ensure_future(work)
    gone = asyncio.ensure_future(_gone(request))
    try:
        await asyncio.wait({task, gone}, return_when=asyncio.FIRST_COMPLETED)
        if not task.done():
            raise ClientGone
        return task.result()
    finally:
        gone.cancel()
        task.cancel()
        await asyncio.wait({task, gone})


async def _gone(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


def _event(value: dict[str, Any]) -> bytes:
    return b"data: " + json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode() + b"\n\n"


def _envelope(prefix: str, model: str, who: pb.Answerer) -> Envelope:
    fingerprint = "_".join(["fp", *(d[7:19] for d in (who.base_model_digest, who.adapter_digest) if d)])
    return Envelope(f"{prefix}-{uuid.uuid4().hex}", int(time.time()), model, fingerprint)


def _headers(who: pb.Answerer) -> dict[str, str]:
    return {
        "x-anneal-base-digest": who.base_model_digest,
        "x-anneal-adapter-digest": who.adapter_digest,
        "x-anneal-canary": str(who.canary).lower(),
    }


def _model(one: Listed) -> dict[str, Any]:
    """`root` is the resource name, never a path on this machine."""
    owner = {"owned_by": "anneal", "root": one.name, "parent": one.parent}
    return {"id": one.id, "object": "model", "created": one.created, **owner}


def _refused(refusal: Refusal) -> Response:
    status, body = describe(refusal)
    headers = {} if refusal.retry_after_s is None else {"retry-after": str(max(1, round(refusal.retry_after_s)))}
    return JSONResponse(body, status_code=status, headers=headers)


async def _no_such_route(request: Request, _error: Exception) -> Response:
    what = error_object(f"there is no {request.url.path}", "invalid_request_error", None, "unknown_url")
    return JSONResponse(what, status_code=404)


async def _no_such_method(request: Request, _error: Exception) -> Response:
    what = f"{request.url.path} does not know {request.method}"
    return JSONResponse(error_object(what, "invalid_request_error", None, "method_not_allowed"), status_code=405)
