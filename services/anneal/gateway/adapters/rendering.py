"""What the gateway says, as HTTP has it: events, headers, errors."""

from __future__ import annotations

import json
import time
import uuid
from typing import Any

from fastapi import Request
from fastapi.responses import JSONResponse, Response

from anneal.gateway.adapters.upstream import Listed
from anneal.gateway.domain.answers import Envelope
from anneal.gateway.domain.errors import describe, error_object, retry_after_s
from anneal.kit.errors import Refusal
from anneal.v1 import inference_service_pb2 as pb


def event(value: dict[str, Any]) -> bytes:
    """A server-sent event."""
    return b"data: " + json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode() + b"\n\n"


def envelope_of(prefix: str, model: str, who: pb.Answerer) -> Envelope:
    """What stands around every object of an answer; the fingerprint says which files answered."""
    fingerprint = "_".join(["fp", *(d[7:19] for d in (who.base_model_digest, who.adapter_digest) if d)])
    return Envelope(f"{prefix}-{uuid.uuid4().hex}", int(time.time()), model, fingerprint)


def headers_of(who: pb.Answerer) -> dict[str, str]:
    """Who answered, as headers."""
    return {
        "x-anneal-base-digest": who.base_model_digest,
        "x-anneal-adapter-digest": who.adapter_digest,
        "x-anneal-canary": str(who.canary).lower(),
    }


def model_object(one: Listed) -> dict[str, Any]:
    """A `model` of the list. `root` is the resource name, never a path on this machine."""
    owner = {"owned_by": "anneal", "root": one.name, "parent": one.parent}
    return {"id": one.id, "object": "model", "created": one.created, **owner}


def refused(refusal: Refusal) -> Response:
    """A refusal as an answer."""
    status, body = describe(refusal)
    wait_s = retry_after_s(refusal)
    headers = {} if wait_s is None else {"retry-after": str(max(1, round(wait_s)))}
    return JSONResponse(body, status_code=status, headers=headers)


async def no_such_route(request: Request, _error: Exception) -> Response:
    """The answer to an unknown path."""
    what = error_object(f"there is no {request.url.path}", "invalid_request_error", None, "unknown_url")
    return JSONResponse(what, status_code=404)


async def no_such_method(request: Request, _error: Exception) -> Response:
    """The answer to a known path with another method."""
    what = f"{request.url.path} does not know {request.method}"
    return JSONResponse(error_object(what, "invalid_request_error", None, "method_not_allowed"), status_code=405)
