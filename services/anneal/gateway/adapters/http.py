"""The HTTP face: FastAPI routes of the OpenAI protocol."""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Sequence
from contextlib import aclosing
from typing import Any

from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse, Response, StreamingResponse
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest

from anneal.gateway.adapters.clients import ClientGone, all_of, read_body, until_gone
from anneal.gateway.adapters.meters import HttpMeters
from anneal.gateway.adapters.rendering import (
    envelope_of,
    event,
    headers_of,
    model_object,
    no_such_method,
    no_such_route,
    refused,
)
from anneal.gateway.adapters.upstream import Found, Upstream, decode_answer
from anneal.gateway.domain import answers
from anneal.gateway.domain.access import Caller, Key, caller_of, names_of, request_id_of
from anneal.gateway.domain.answers import Answer, Envelope
from anneal.gateway.domain.errors import ModelMissing, bug, describe
from anneal.gateway.domain.openai import ChatRequest, CompletionRequest, read_chat, read_completion
from anneal.kit import logs
from anneal.kit.errors import Invalid, Refusal
from anneal.v1 import inference_service_pb2 as pb

_OPEN_ROUTES = ("/health",)
_CLIENT_GONE = 499
"""nginx's status for a client that closed its connection; nobody reads it but the metrics."""

Handler = Callable[[Request], Awaitable[Response]]
Chunk = Callable[[Envelope, Answer, str | None], dict[str, Any]]
"""Makes an event of a piece; the third argument is the text before it, None for the first piece."""


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
        app.add_exception_handler(404, no_such_route)
        app.add_exception_handler(405, no_such_method)
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
                response = refused(refusal)
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
        return JSONResponse({"object": "list", "data": [model_object(one) for one in listed]})

    async def model(self, request: Request) -> Response:
        """One of them."""
        model = request.path_params["model"]
        names = names_of(model, request.state.caller)
        for one in await self._upstream.listed(names[0].split("/")[1]):
            if one.name in names:
                return JSONResponse({**model_object(one), "id": model})
        raise ModelMissing(f"the model {model!r} does not exist", model=model)

    async def chat(self, request: Request) -> Response:
        """The next message of a conversation."""
        body = read_chat(await self._body(request))
        found = await self._find(body.model, request.state.caller, body.user or "")
        with_logprobs = body.logprob_count is not None
        if body.stream:
            pieces = self._upstream.stream_chat(found, body, request.state.id)

            def chunk(envelope: Envelope, piece: Answer, before: str | None) -> dict[str, Any]:
                return answers.chat_chunk(envelope, piece, first=before is None, with_logprobs=with_logprobs)

            return await self._stream(request, body, pieces, "chatcmpl", "chat.completion.chunk", chunk)
        answer, who = await until_gone(request, self._upstream.chat(found, body, request.state.id))
        envelope = envelope_of("chatcmpl", body.model, who)
        return JSONResponse(answers.chat_answer(envelope, answer, with_logprobs=with_logprobs), headers=headers_of(who))

    async def complete(self, request: Request) -> Response:
        """The continuation of a text, or of several."""
        body = read_completion(await self._body(request))
        found = await self._find(body.model, request.state.caller, body.user or "")
        with_logprobs = body.logprobs is not None
        if body.stream:
            pieces = self._upstream.stream_complete(found, body, request.state.id)

            def chunk(envelope: Envelope, piece: Answer, before: str | None) -> dict[str, Any]:
                choice = answers.completion_choice(0, piece, with_logprobs=with_logprobs, offset=len(before or ""))
                return envelope.wrap("text_completion", [choice])

            return await self._stream(request, body, pieces, "cmpl", "text_completion", chunk)
        calls = [self._upstream.complete(found, body, prompt, request.state.id) for prompt in body.prompts]
        done = await until_gone(request, all_of(calls))
        who = done[0][1]
        choices = [answers.completion_choice(i, a, with_logprobs=with_logprobs) for i, (a, _) in enumerate(done)]
        used = answers.usage([answer.usage or (0, 0) for answer, _ in done])
        return JSONResponse(
            envelope_of("cmpl", body.model, who).wrap("text_completion", choices, usage=used), headers=headers_of(who)
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
        first = await until_gone(request, anext(pieces))
        envelope = envelope_of(prefix, body.model, first.answerer)

        async def events() -> AsyncIterator[bytes]:
            piece, text = decode_answer(first), ""
            with self._meters.streams.track_inprogress():
                async with aclosing(pieces):
                    try:
                        yield event(chunk(envelope, piece, None))
                        async for message in pieces:
                            text += piece.text
                            piece = decode_answer(message)
                            yield event(chunk(envelope, piece, text))
                    except Refusal as refusal:
                        yield event(describe(refusal)[1])
                        return
                    except Exception:  # noqa: BLE001 - as in `_guarded`, which has answered with the head by now
                        self._log.exception("bug", id=request.state.id)
                        yield event(bug()[1])
                        return
                    if body.wants_usage:
                        yield event(envelope.wrap(kind, [], usage=answers.usage([piece.usage or (0, 0)])))
                    yield b"data: [DONE]\n\n"

        headers = {**headers_of(first.answerer), "cache-control": "no-cache"}
        return StreamingResponse(events(), media_type="text/event-stream", headers=headers)

    async def _find(self, model: str, caller: Caller, user: str) -> Found:
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
        data = await read_body(request, self._max_body_bytes)
        try:
            return json.loads(data)
        except (ValueError, RecursionError) as error:
            raise Invalid.field("body", f"is no JSON: {error}") from None
