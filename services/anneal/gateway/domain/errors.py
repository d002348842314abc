"""Refusals in OpenAI's words: one table from kinds to HTTP codes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from anneal.kit.errors import Invalid, Kind, Missing, Refusal

HTTP: Mapping[Kind, tuple[int, str]] = {
    Kind.INVALID: (400, "invalid_request_error"),
    Kind.UNKNOWN_CALLER: (401, "authentication_error"),
    Kind.DENIED: (403, "permission_error"),
    Kind.MISSING: (404, "not_found_error"),
    Kind.EXISTS: (409, "conflict_error"),
    Kind.NOT_YET: (409, "conflict_error"),
    Kind.CONFLICT: (409, "conflict_error"),
    Kind.BUSY: (429, "rate_limit_error"),
    Kind.DOWN: (503, "service_unavailable_error"),
    Kind.TOO_LATE: (504, "timeout_error"),
}
"""Kind -> HTTP status and OpenAI's error type."""

_STATUSES: Mapping[str, int] = {"BODY_TOO_LARGE": 413}
"""Reasons for which HTTP has a status of its own."""

_BEHIND = ("STORE_", "DATABASE_", "SERVICE_", "DISK_")
"""How reasons begin that speak of what stands behind the gateway, and of nothing that an app could change."""

RETRY_AFTER_S = 30.0
"""For what an operator has to mend first."""

_CODES: Mapping[str, str] = {
    "MODEL_MISSING": "model_not_found",
    "DEPLOYMENT_MISSING": "model_not_found",
    "PROMPT_TOO_LONG": "context_length_exceeded",
    "CREDENTIALS_MISSING": "invalid_api_key",
}
"""Reasons for which OpenAI has a code of its own; all others are the reason in lower case."""

_PARAMETERS: Mapping[str, str] = {
    "sampling.json_schema": "response_format",
    "sampling.json_object": "response_format",
    "sampling.logprobs": "top_logprobs",
    "tools_json": "tools",
}
"""Our fields -> OpenAI's parameters, where they are named otherwise."""


class ModelMissing(Missing):
    """No deployment and no base model has that name."""

    reason = "MODEL_MISSING"


class Unsupported(Invalid):
    """A parameter whose effect this endpoint does not have; leaving it out silently would change the answer."""

    reason = "UNSUPPORTED_PARAMETER"

    @classmethod
    def parameter(cls, name: str, why: str) -> Unsupported:
        """One such parameter."""
        return cls(f"{name}: {why}", violations=[(name, why)])


class BodyTooLarge(Invalid):
    """The request is longer than the gateway reads."""

    reason = "BODY_TOO_LARGE"


def describe(refusal: Refusal) -> tuple[int, dict[str, Any]]:
    """HTTP status and error object of a refusal."""
    status, kind = HTTP[Kind.DOWN if refusal.reason.startswith(_BEHIND) else refusal.kind]
    parameter = None
    if isinstance(refusal, Invalid) and refusal.violations:
        path = refusal.violations[0][0]
        parameter = _PARAMETERS.get(path, path.removeprefix("sampling."))
    code = _CODES.get(refusal.reason, refusal.reason.lower())
    return _STATUSES.get(refusal.reason, status), error_object(str(refusal), kind, parameter, code)


def retry_after_s(refusal: Refusal) -> float | None:
    """When to send the same request again; None where waiting does not help."""
    if refusal.retry_after_s is None and describe(refusal)[0] == 503:
        return RETRY_AFTER_S
    return refusal.retry_after_s


def error_object(message: str, kind: str, parameter: str | None, code: str | None) -> dict[str, Any]:
    """OpenAI's error object."""
    return {"error": {"message": message, "type": kind, "param": parameter, "code": code}}


def bug() -> tuple[int, dict[str, Any]]:
    """What is said of a bug: that it is one, and nothing of its text."""
    return 500, error_object("this is a bug of the server; its log has the trace", "server_error", None, "internal")
